"""The HTML of letters: what of it may be shown, and what it says as plain text. The only importer of nh3.

What may be shown is nh3's to decide, by the tables here. But it reads HTML as browsers do, and that takes quadratic time
and room for letters written to that end: tags in tags, tags of a hundred thousand attributes, formatting left open that
each paragraph opens again, a million `&` (60 seconds for 3 MB). So it gets only what was read here first, in one pass:
tags and attributes that may be shown, nested a little, each closed again, and text in pieces.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape, unescape
from types import MappingProxyType
from typing import NamedTuple

import nh3

#: A letter of more tags that may be shown is shown as its text. Long newsletters have some 5,000.
MOST_TAGS = 20_000
#: Tags inside of each other; deeper ones are left out. Newsletters of tables in tables reach 60.
MOST_DEEP = 100
#: The same for tags that a browser may open again in each paragraph: the most by which a letter can grow there.
MOST_FORMATS = 8
#: How many times longer than the letter what is shown may be; each link of few characters gets 60 more.
MOST_GROWTH = 12
#: Characters of an address worth following.
LONGEST_LINK = 2000
#: Characters of text that nh3 gets at once: it takes quadratic time for a text of many `&` or no-break spaces.
_AT_ONCE = 2000
#: Where quotes in quotes and lists in lists are no longer told apart in text.
_DEEPEST_QUOTE = 3
_DEEPEST_LIST = 4


# --- what may be shown ------------------------------------------------------------------------------------------------

#: The standard's "formatting" elements: left open, they are opened again in whatever comes next.
_FORMATS = frozenset(["a", "b", "big", "code", "em", "font", "i", "s", "small", "strike", "strong", "tt", "u"])
_INLINE = frozenset(["abbr", "cite", "del", "ins", "kbd", "mark", "q", "samp", "span", "sub", "sup", "var"])
_EMPTY = frozenset({"br", "hr", "img"})
_CELLS = frozenset({"td", "th"})
_ROWS = frozenset({"thead", "tbody", "tfoot"})
_TABLE = _CELLS | _ROWS | {"tr", "table"}
_BLOCKS = frozenset(
    [
        "blockquote",
        "center",
        "dd",
        "div",
        "dl",
        "dt",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "table",
        "ul",
    ]
)
_SHOWN = _FORMATS | _INLINE | _EMPTY | _TABLE | _BLOCKS
#: Their content is no HTML; neither it nor they are shown.
_UNREAD = frozenset(["iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"])

_NUMBER = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4})?%?(?:px)?")
_SPAN = re.compile(r"[0-9]{1,2}")
_WORDS = re.compile(r"[\w #.,'\"+-]{1,100}")
_WRITTEN = re.compile(r".{1,500}", re.DOTALL)
_LINK = re.compile(rf"(?:https?://|mailto:)[^\s<>\x00-\x20]{{1,{LONGEST_LINK}}}", re.IGNORECASE)
#: Nothing that makes a program fetch anything, and no SVG, which is a document with scripts of its own.
_PICTURE = re.compile(
    r"cid:[^\s<>\x00-\x20]{1,500}|data:image/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=\s]++", re.IGNORECASE
)
#: A property and a value that can load nothing (no function but rgb, no escape) and reach nowhere (nothing negative).
_DECLARATION = re.compile(r"[\s]*+[a-z-]{2,30}\s*+:(?:[\w\s#%.,!/'\"]|-(?![0-9.])|(?<=rgb)\(|(?<=rgba)\(|\)){1,200}")

#: Each attribute that may be shown, with all it may say.
_VALUES: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "align": _WORDS,
        "alt": _WRITTEN,
        "bgcolor": _WORDS,
        "border": _NUMBER,
        "cellpadding": _NUMBER,
        "cellspacing": _NUMBER,
        "color": _WORDS,
        "colspan": _SPAN,
        "dir": _WORDS,
        "face": _WORDS,
        "height": _NUMBER,
        "href": _LINK,
        "rowspan": _SPAN,
        "size": _WORDS,
        "src": _PICTURE,
        "start": _NUMBER,
        "title": _WRITTEN,
        "valign": _WORDS,
        "width": _NUMBER,
    }
)
_OF_ANY = frozenset({"align", "dir"})
_OF_CELLS = frozenset({"align", "bgcolor", "colspan", "height", "rowspan", "style", "valign", "width"})
_ATTRIBUTES: Mapping[str, frozenset[str]] = MappingProxyType(
    dict.fromkeys(_BLOCKS | {"span"}, _OF_ANY | {"style"})
    | dict.fromkeys(_CELLS, _OF_ANY | _OF_CELLS)
    | {
        "a": frozenset({"href"}),
        "abbr": frozenset({"title"}),
        "font": frozenset({"color", "face", "size"}),
        "img": frozenset({"alt", "height", "src", "width"}),
        "ol": _OF_ANY | {"start", "style"},
        "table": _OF_ANY | {"bgcolor", "border", "cellpadding", "cellspacing", "style", "width"},
        "tr": _OF_ANY | {"bgcolor", "style", "valign"},
    }
)
#: None that puts anything elsewhere, on top of something, or out of sight.
_PROPERTIES = frozenset(
    [
        "background",
        "background-color",
        "border",
        "border-bottom",
        "border-collapse",
        "border-color",
        "border-left",
        "border-radius",
        "border-right",
        "border-spacing",
        "border-style",
        "border-top",
        "border-width",
        "color",
        "font",
        "font-family",
        "font-size",
        "font-style",
        "font-variant",
        "font-weight",
        "height",
        "letter-spacing",
        "line-height",
        "list-style-type",
        "margin",
        "margin-bottom",
        "margin-left",
        "margin-right",
        "margin-top",
        "max-width",
        "min-width",
        "padding",
        "padding-bottom",
        "padding-left",
        "padding-right",
        "padding-top",
        "text-align",
        "text-decoration",
        "text-indent",
        "text-transform",
        "vertical-align",
        "white-space",
        "width",
        "word-break",
    ]
)


def shown(html: str) -> str:
    """What is safe to show of a foreign letter: it runs nothing, sends nothing, and loads nothing from anywhere.

    What is too much for that, or was written to be too much, is shown as its text. The time it takes is bounded by the
    length.
    """
    rewritten = _rewritten(html)
    if rewritten is None:
        return _shown_as_text(html)
    clean = _CLEANER.clean(rewritten)
    return clean if len(clean) <= MOST_GROWTH * len(html) + 1000 else _shown_as_text(html)


def _shown_as_text(html: str) -> str:
    return f'<pre style="white-space:pre-wrap">{escape(as_text(html), quote=False)}</pre>'


def _allowed(tag: str, attribute: str, value: str) -> str | None:
    if attribute in {"rel", "target"}:
        # Put there by nh3: the letter's own never reach it.
        return value
    if attribute == "style":
        return ";".join(each.strip() for each in value.split(";") if _DECLARATION.fullmatch(each.lower())) or None
    pattern = _VALUES.get(attribute)
    value = value.strip()
    return value if pattern is not None and pattern.fullmatch(value) else None


_CLEANER = nh3.Cleaner(
    tags=_SHOWN,
    clean_content_tags=_UNREAD,
    attributes=dict(_ATTRIBUTES),
    attribute_filter=_allowed,
    filter_style_properties=_PROPERTIES,
    link_rel="noopener noreferrer",
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes={"http", "https", "mailto", "cid", "data"},
)


# --- reading ----------------------------------------------------------------------------------------------------------

_SPACE = r"[\t\n\f\r ]"
#: A quote that is never closed reaches to the end. Nothing here is ever given back, so that each tag is read once.
_VALUE = rf"""(?:{_SPACE}*+={_SPACE}*+(?:"[^"]*+"?+|'[^']*+'?+|[^\t\n\f\r >]*+))?+"""
_ATTRIBUTE_NAME = r"[^\t\n\f\r />][^\t\n\f\r />=]*+"
_ATTRIBUTE = re.compile(
    rf"""[\t\n\f\r /]*+({_ATTRIBUTE_NAME})(?:{_SPACE}*+={_SPACE}*+("[^"]*+"?+|'[^']*+'?+|[^\t\n\f\r >]*+))?+"""
)
_TAG = re.compile(
    rf"<(/?+)([A-Za-z][^\t\n\f\r />]*+)((?:[\t\n\f\r /]*+{_ATTRIBUTE_NAME}{_VALUE})*+)[\t\n\f\r /]*+(>?+)"
)
#: Any other `<` is text.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])")
_COMMENT_ENDS = re.compile("--!?>")
_UNREAD_ENDS = {name: re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE) for name in _UNREAD}
#: Beyond Unicode, and beyond what Python reads as a number at all.
_NO_CHARACTER = re.compile(r"&#[0-9]{8,}+;?")
#: In an attribute, only these are entities: `?a=1&copy=2` is none.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class _Tag(NamedTuple):
    name: str
    ends: bool
    #: As they stand in the letter.
    attributes: str


def _pieces(html: str) -> Iterator[str | _Tag]:
    """Text, with its entities, and tags, in turn. What a browser would look for in vain ends the letter here too."""
    at = 0
    while (markup := _MARKUP.search(html, at)) is not None:
        start = markup.start()
        if start > at:
            yield html[at:start]
        tag = _TAG.match(html, start)
        if tag is None:
            at = _behind_remark(html, start)
        elif not tag[4]:
            return
        elif tag[2].lower() in _UNREAD and not tag[1]:
            at = _behind_unread(html, tag.end(), tag[2].lower())
        else:
            at = tag.end()
            yield _Tag(tag[2].lower(), bool(tag[1]), tag[3])
    if at < len(html):
        yield html[at:]


def _behind_remark(html: str, start: int) -> int:
    """Where a comment, a declaration, an instruction or the end of nothing has ended."""
    if html.startswith("<!--", start):
        ends = _COMMENT_ENDS.search(html, start + 2)
        return len(html) if ends is None else ends.end()
    return html.find(">", start) + 1 or len(html)


def _behind_unread(html: str, start: int, name: str) -> int:
    """Where what is no HTML has ended, and the tag that ends it begins."""
    ends = _UNREAD_ENDS[name].search(html, start)
    return len(html) if ends is None else ends.start()


def _attributes(tag: _Tag) -> dict[str, str]:
    """The tag's attributes that may be shown; of two of a name the first."""
    found: dict[str, str] = {}
    wanted = _ATTRIBUTES.get(tag.name)
    if wanted is None or not tag.attributes:
        return found
    for attribute in _ATTRIBUTE.finditer(tag.attributes):
        name = attribute[1].lower()
        if name in wanted and name not in found:
            value = attribute[2] or ""
            value = value[1:-1] if value[:1] in {'"', "'"} else value
            found[name] = _LONE_SURROGATE.sub("\ufffd", _ENTITY.sub(lambda entity: unescape(entity[0]), value))
    return found


def _plain(text: str) -> str:
    """The text without entities, and with nothing that cannot be encoded."""
    return _LONE_SURROGATE.sub("\ufffd", unescape(_NO_CHARACTER.sub("\ufffd", text)))


# --- rewriting --------------------------------------------------------------------------------------------------------


class _Ends(NamedTuple):
    """Which open tags a new one ends, and those that it does not look behind."""

    ended: frozenset[str]
    behind: frozenset[str]


_BEHIND_CELLS = _CELLS | {"table"}
_ENDS_PARAGRAPH = _Ends(frozenset({"p"}), _BEHIND_CELLS)
_STARTS_END: Mapping[str, tuple[_Ends, ...]] = MappingProxyType(
    dict.fromkeys(_BLOCKS, (_ENDS_PARAGRAPH,))
    | dict.fromkeys(_CELLS, (_Ends(_CELLS, frozenset({"tr", "table"})),))
    | dict.fromkeys(_ROWS, (_Ends(_ROWS | {"tr"}, frozenset({"table"})),))
    | dict.fromkeys(("dd", "dt"), (_ENDS_PARAGRAPH, _Ends(frozenset({"dd", "dt"}), _BEHIND_CELLS | {"dl"})))
    | {
        "a": (_Ends(frozenset({"a"}), _BEHIND_CELLS),),
        "li": (_ENDS_PARAGRAPH, _Ends(frozenset({"li"}), _BEHIND_CELLS | {"ol", "ul"})),
        "tr": (_Ends(frozenset({"tr"}), frozenset({"table"})),),
    }
)


def _rewritten(html: str) -> str | None:
    """The letter of tags that may be shown only, each of them closed; None when they are too many."""
    page = _Page()
    for piece in _pieces(html):
        if isinstance(piece, str):
            page.write(_plain(piece))
        elif piece.name not in _SHOWN:
            continue
        elif piece.ends:
            page.end(piece.name)
        elif page.tags < MOST_TAGS:
            page.start(piece)
        else:
            return None
    page.end_down_to(0)
    return "".join(page.parts)


class _Page:
    """HTML as it is written, with the tags open in it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.tags = 0
        self._open: list[str] = []
        self._formats = 0
        self._left_out: Counter[str] = Counter()

    def write(self, text: str) -> None:
        escaped = (escape(text[at : at + _AT_ONCE], quote=False) for at in range(0, len(text), _AT_ONCE))
        self.parts.append("<!---->".join(escaped))

    def start(self, tag: _Tag) -> None:
        for ends in _STARTS_END.get(tag.name, ()):
            self._end_last(ends.ended, ends.behind)
        self.tags += 1
        is_format = tag.name in _FORMATS
        if len(self._open) >= MOST_DEEP or (is_format and self._formats >= MOST_FORMATS):
            self._left_out[tag.name] += tag.name not in _EMPTY
            return
        attributes = (f' {name}="{escape(value)}"' for name, value in _attributes(tag).items())
        self.parts.append(f"<{tag.name}{''.join(attributes)}>")
        if tag.name not in _EMPTY:
            self._open.append(tag.name)
            self._formats += is_format

    def end(self, name: str) -> None:
        if self._left_out[name]:
            self._left_out[name] -= 1
        else:
            self._end_last(frozenset({name}), frozenset() if name in _TABLE else _BEHIND_CELLS)

    def _end_last(self, ended: frozenset[str], behind: frozenset[str]) -> None:
        for position in range(len(self._open) - 1, -1, -1):
            if self._open[position] in ended:
                self.end_down_to(position)
                return
            if self._open[position] in behind:
                return

    def end_down_to(self, depth: int) -> None:
        while len(self._open) > depth:
            name = self._open.pop()
            self._formats -= name in _FORMATS
            self.parts.append(f"</{name}>")


# --- text -------------------------------------------------------------------------------------------------------------

#: Before and after these one line stays empty; before and after the others a line ends.
_PARAGRAPHS = frozenset(
    ["blockquote", "center", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"]
)
_LINES = frozenset(
    [
        "address",
        "article",
        "aside",
        "body",
        "dd",
        "div",
        "dt",
        "fieldset",
        "figure",
        "footer",
        "form",
        "header",
        "li",
        "main",
        "nav",
        "section",
        "tr",
    ]
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def as_text(html: str) -> str:
    """The plain text of an HTML letter: paragraphs, lists, quotes, links as `text <address>`; no line is wrapped.

    The time it takes grows with the length and with nothing else. It is not in NFC: that would take longer.
    """
    text = _Text()
    for piece in _pieces(html):
        if isinstance(piece, str):
            text.write(_plain(piece))
        elif piece.ends:
            text.end(piece.name)
        else:
            text.start(piece)
    return _CONTROLS.sub("", text.whole())


class _Text:
    """Text as it is written: lines, and what the next word needs before it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        #: Line ends due before the next word, and whether a space is.
        self._breaks = 0
        self._space = ""
        #: How many quotes what comes next stands in, the line that is written, and the line before it.
        self._quotes = 0
        self._line_quotes = 0
        self._quotes_before = 0
        self._kept = 0
        #: The number of the last item of each list that is open; None = they have none.
        self._lists: list[int | None] = []
        self._marker = ""
        self._link: str | None = None
        self._linked: list[str] = []

    def whole(self) -> str:
        self._end_link()
        self._breaks = 0
        self._end_line()
        return "\n".join(self._lines)

    def start(self, tag: _Tag) -> None:
        self._break_around(tag.name)
        match tag.name:
            case "br":
                # Two of them are a line left empty.
                self._breaks = min(self._breaks + 1, 2)
            case "hr":
                self._breaks = 2
                self._put("---")
                self._breaks = 2
            case "img":
                self.write(_attributes(tag).get("alt", ""))
            case "td" | "th":
                self._space = "  "
            case "a":
                self._end_link()
                self._link = _address(_attributes(tag).get("href", ""))
            case "blockquote":
                self._quotes += 1
            case "pre":
                self._kept += 1
            case "ul" | "ol":
                self._lists.append(0 if tag.name == "ol" else None)
            case "li":
                self._mark()

    def end(self, name: str) -> None:
        match name:
            case "a":
                self._end_link()
            case "blockquote":
                self._quotes = max(self._quotes - 1, 0)
            case "pre":
                self._kept = max(self._kept - 1, 0)
            case "ul" | "ol":
                self._marker = ""
                if self._lists:
                    self._lists.pop()
        self._break_around(name)

    def write(self, text: str) -> None:
        if self._kept:
            for number, line in enumerate(text.splitlines() if "\n" in text else (text,)):
                if number:
                    self._breaks = min(self._breaks + 1, 2)
                if not line.isspace():
                    self._put(line)
            if text.endswith("\n"):
                self._breaks = min(self._breaks + 1, 2)
            return
        words = " ".join(text.split())
        if text[:1].isspace():
            self._space = self._space or " "
        if words:
            self._put(words)
            if text[-1].isspace():
                self._space = " "

    def _put(self, words: str) -> None:
        if self._breaks:
            self._end_line()
        if not self._line:
            lists = min(max(len(self._lists) - bool(self._marker), 0), _DEEPEST_LIST)
            self._line_quotes = self._quotes
            self._line.append("> " * min(self._quotes, _DEEPEST_QUOTE) + "  " * lists + self._marker)
            self._marker = ""
        elif self._space:
            self._line.append(self._space)
        self._space = ""
        self._line.append(words)
        if self._link is not None:
            self._linked.append(words)

    def _end_line(self) -> None:
        if self._line:
            self._lines.append("".join(self._line).rstrip())
            self._quotes_before = self._line_quotes
            self._line.clear()
        if self._lines and self._breaks > 1:
            self._lines.append(("> " * min(self._quotes, self._quotes_before, _DEEPEST_QUOTE)).rstrip())
        self._breaks = 0

    def _break_around(self, name: str) -> None:
        if name in _PARAGRAPHS and not (name in {"ol", "ul"} and self._lists):
            self._breaks = 2
        elif name in _LINES or name in _PARAGRAPHS:
            self._breaks = max(self._breaks, 1)

    def _mark(self) -> None:
        number = self._lists[-1] if self._lists else None
        if number is None:
            self._marker = "- "
        else:
            self._lists[-1] = number + 1
            self._marker = f"{number + 1}. "

    def _end_link(self) -> None:
        address, self._link = self._link, None
        text = " ".join(self._linked)
        self._linked.clear()
        if address is None or _bare(text) == _bare(address):
            return
        # Right behind its text, although what the text stands in may have ended.
        breaks, self._breaks = self._breaks if text else 0, 0 if text else self._breaks
        self._space = " " if text else self._space
        self._put(f"<{address}>")
        self._breaks = breaks


def _address(href: str) -> str | None:
    """Where a link leads; None when nobody should follow it."""
    address = href.strip()
    if _LINK.fullmatch(address) is None:
        return None
    return address[len("mailto:") :] if address[:7].lower() == "mailto:" else address


def _bare(address: str) -> str:
    """An address without what people leave out when they write it."""
    lower = address.strip().lower()
    return lower.removeprefix("https://").removeprefix("http://").rstrip("/")
