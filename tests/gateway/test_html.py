"""The HTML of letters: what is shown of it, and its plain text."""

import re
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.html import MOST_DEEP, MOST_GROWTH, MOST_TAGS, as_text, shown

LINK = 'target="_blank" rel="noopener noreferrer"'


# --- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letter", "safe"),
    [
        ("Hello <b>you</b> &amp; me", "Hello <b>you</b> &amp; me"),
        ("1 < 2 &lt;b&gt; 3", "1 &lt; 2 &lt;b&gt; 3"),
        ("<p>one<p>two<ul><li>a<li>b</ul>", "<p>one</p><p>two</p><ul><li>a</li><li>b</li></ul>"),
        ("<b><i>x</b>y</i>z", "<b><i>x</i></b>yz"),
        (
            "<table><tr><td>a</div><td>b<tr><th>c</table>d",
            "<table><tbody><tr><td>a</td><td>b</td></tr><tr><th>c</th></tr></tbody></table>d",
        ),
        # Nothing runs and nothing is sent.
        ("a<script>alert(1)</script>b<SCRIPT/x>c</ScRiPt >d", "abd"),
        ("<p onclick=alert(1) onmouseover='x'>a</p>", "<p>a</p>"),
        ("<form action=//evil><input name=a><button>b</button></form>", "b"),
        ("<svg><script>x</script><a xlink:href='javascript:x'>y</a></svg>", f"<a {LINK}>y</a>"),
        ("<<b>script>alert(1)<</b>/script>", "&lt;<b>script&gt;alert(1)&lt;</b>/script&gt;"),
        ("<iframe src=//evil>x</iframe><object data=x>y</object><base href=//evil><meta http-equiv=refresh>", "y"),
        ("<textarea><b></textarea><title><i></title><style>p{}</style><!-- <b> -->z", "z"),
        # Links that are some, and only those.
        ('<a href="https://x.example/?a=1&copy=2">x</a>', f'<a href="https://x.example/?a=1&amp;copy=2" {LINK}>x</a>'),
        ("<a href=mailto:a@b.example>x</a>", f'<a href="mailto:a@b.example" {LINK}>x</a>'),
        ("<a href=javascript:x>x</a>", f"<a {LINK}>x</a>"),
        ("<a href='java\nscript:x'>x</a>", f"<a {LINK}>x</a>"),
        ("<a href='&#106;avascript:x'>x</a>", f"<a {LINK}>x</a>"),
        ("<a href=/admin>x</a><a href=//evil>y</a>", f"<a {LINK}>x</a><a {LINK}>y</a>"),
        ("<a href=data:text/html,x rel=opener target=_top>x</a>", f"<a {LINK}>x</a>"),
        # Pictures that came with the letter, and only those.
        ("<img src=cid:ab@c alt=Logo onerror=x>", '<img src="cid:ab@c" alt="Logo">'),
        ("<img src=data:image/png;base64,AAAA>", '<img src="data:image/png;base64,AAAA">'),
        ("<img src=https://tracker.example/a.gif alt=Hi>", '<img alt="Hi">'),
        ("<img src=data:image/svg+xml;base64,AAAA srcset=//evil>", "<img>"),
        ("<img alt='\"><script>x</script>'>", '<img alt="&quot;&gt;&lt;script&gt;x&lt;/script&gt;">'),
        ("<table background=//evil><td background=//evil>x", "<table><tbody><tr><td>x</td></tr></tbody></table>"),
        # Styles that load nothing and reach nowhere.
        ('<p style="color: red; text-align:center">x</p>', '<p style="color:red;text-align:center">x</p>'),
        ('<p style="color:rgb(1, 2, 3)">x</p>', '<p style="color:rgb(1, 2, 3)">x</p>'),
        ('<p style="background:url(//evil)">x</p>', "<p>x</p>"),
        (r'<p style="background:u\72l(//evil);color:red">x</p>', '<p style="color:red">x</p>'),
        ('<p style="position:fixed;margin-top:-99px;color:red">x</p>', '<p style="color:red">x</p>'),
        ("<div id=login class=button>x</div>", "<div>x</div>"),
        # What never ends.
        ("a<!-- b", "a"),
        ("a<b title='", "a"),
        ("a<style>b", "a"),
        ("a<", "a&lt;"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("&#99999999999999999999;", "\ufffd"),
        ("", ""),
    ],
)
def test_what_is_shown(letter: str, safe: str) -> None:
    """What a letter may be shown by stays as it is; what runs, sends, loads or hides is left out."""
    assert _sorted(shown(letter)) == _sorted(safe)


def _sorted(html: str) -> str:
    """With the attributes of each tag in one order."""
    return re.sub(r"<(\w+)((?: [\w-]+=\"[^\"]*\")+)>", _one_order, html)


def _one_order(tag: re.Match[str]) -> str:
    attributes = sorted(re.findall(r'[a-z-]+="[^"]*"', tag[2]))
    return f"<{tag[1]} {' '.join(attributes)}>"


FRAGMENTS = st.sampled_from(
    [
        *("<b>", "</b>", "<p>", "</p>", "<a href=https://x.example>", "</a>", "<table>", "<tr>", "<td>", "</table>"),
        *("<script>", "</script>", "<svg>", "<math>", "<style>", "</style>", "<!--", "-->", "<![CDATA[", "]]>", "<"),
        *("<img src=x onerror=alert(1)>", "<mtext>", "<mglyph>", "<noscript>", "<template>", "<select>", "'", '"', ">"),
        *(
            "&lt;",
            "&amp;lt;script>",
            " onload=x ",
            "=",
            "/",
            "text",
            "\x00",
            "<font color=red>",
            "<li>",
            "<form>",
            "<a ",
        ),
    ]
)


@given(st.lists(FRAGMENTS | st.text(max_size=5), max_size=40).map("".join))
def test_whatever_comes_in_is_shown_safely(letter: str) -> None:
    """Whatever a letter is made of, only known tags and attributes come out, and cleaning them again changes nothing."""
    safe = shown(letter)

    tags = re.findall(r"<[^>]*>", safe)
    assert not [tag for tag in tags if not re.fullmatch(r"</?[a-z0-9]+(?: [a-z]+=\"[^\"<>]*\")*>", tag)]
    assert not re.search(r"<(?:script|style|svg|math|form|iframe|template|select|noscript)|<[^>]* on\w+=", safe)
    assert shown(safe).count("<") == safe.count("<")


def test_a_letter_of_too_many_tags_is_shown_as_text() -> None:
    """What would take a browser long is shown as what it says."""
    assert shown("<b>x</b>&lt;" * MOST_TAGS).count("<b>") == MOST_TAGS
    assert shown("<b>x</b>&lt;" * (MOST_TAGS + 1)) == _as_shown_text("x<" * (MOST_TAGS + 1))


def _as_shown_text(text: str) -> str:
    return f'<pre style="white-space:pre-wrap">{escape(text)}</pre>'


def test_what_is_nested_too_deep_is_flattened() -> None:
    """Tags in tags are shown so far, and the text in all of them."""
    safe = shown("<div>" * 500 + "x" + "</div>" * 500 + "<p>y</p>")

    assert safe == "<div>" * MOST_DEEP + "x" + "</div>" * MOST_DEEP + "<p>y</p>"


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("<p>Hello  <b>you</b>,\n</p>\n<p>one<br>two<br><br>three", "Hello you,\n\none\ntwo\n\nthree"),
        ("<div>a</div><div>b<span> c</span></div><h1>d</h1>e", "a\nb c\n\nd\n\ne"),
        ("<ul><li>one<li>two<ol><li>a<li>b</ol></ul>x", "- one\n- two\n  1. a\n  2. b\n\nx"),
        ("<ol><li><p>one</p></li><li>two</li></ol>", "1. one\n\n2. two"),
        ("<table><tr><td>Price<td>3&nbsp;&euro;</tr><tr><td>x</table>", "Price  3 €\nx"),
        ("a<blockquote>b<blockquote>c</blockquote></blockquote>d", "a\n\n> b\n>\n> > c\n\nd"),
        ("<pre>a\n  b\n\nc</pre>", "a\n  b\n\nc"),
        ("a<hr>b", "a\n\n---\n\nb"),
        # Links.
        ("see <a href='https://x.example/?a=1&amp;b=2'>here</a>.", "see here <https://x.example/?a=1&b=2>."),
        ("<a href=http://www.x.example/>www.x.example</a>!", "www.x.example!"),
        ("<a href=mailto:a@x.example>Jane</a> <a href=mailto:a@x.example>a@x.example</a>", "Jane <a@x.example> a@x.example"),
        ("<a href=javascript:x>no</a> <a name=x>none</a>", "no none"),
        ("<a href=https://x.example><div>Button</div></a>next", "Button <https://x.example>\nnext"),
        ("<a href=https://x.example><img alt=Logo src=cid:a></a><img src=cid:b>", "Logo <https://x.example>"),
        ("<a href=https://x.example>never closed", "never closed <https://x.example>"),
        # Neither scripts nor styles nor remarks.
        ("<title>t</title><style>p{}</style>a<script>b</script><!--[if mso]>c<![endif]-->d<![if !mso]>e<![endif]>", "ade"),
        # Entities.
        ("1 < 2 &amp;&amp; 3 &gt; 2 &lt;b&gt; &#x263A;&#128512;&eacute;", "1 < 2 && 3 > 2 <b> \u263a\U0001f600é"),
        ("&#" + "9" * 5000 + "; &#0; &#xd800; \ud800", "\ufffd \ufffd \ufffd \ufffd"),
        ("nul\x00bell\x07", "nulbell"),
        ("", ""),
    ],
)  # fmt: skip
def test_as_text(letter: str, text: str) -> None:
    """A letter's text has its paragraphs, lists, quotes and addresses, and nothing that a reader would not see."""
    assert as_text(letter) == text


@given(st.lists(FRAGMENTS | st.text(st.characters(exclude_categories=()), max_size=5), max_size=40).map("".join))
def test_any_text_can_be_stored(letter: str) -> None:
    """Whatever a letter is made of, its text can be encoded, has no controls, and is not much longer."""
    text = as_text(letter)

    assert text.encode().decode() == text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)


# --- letters written to take long -------------------------------------------------------------------------------------

LENGTH = 3_000_000


def of(part: str, length: int = LENGTH) -> str:
    """A text of so many characters that says the same again and again."""
    return (part * (length // len(part) + 1))[:length]


#: Each takes minutes to hours, or gigabytes, in a parser that looks twice at the same; in html.parser, in nh3, or in an
#: expression that tries another way.
HOSTILE = {
    "open tags": "<div>" * 300_000 + of("<p>", LENGTH // 2),
    "no tags": of("<"),
    "tags without end": of("<a "),
    "comments without end": of("<!-- -"),
    "quotes without end": of("<a b=\"'"),
    "attributes": "<a " + " ".join(f"a{number}" for number in range(400_000)) + ">x",
    "attributes that hide ends": "<a " + "".join(f'a{number}=">"' for number in range(250_000)) + ">x",
    "spaces in a tag": "<a" + " " * LENGTH,
    "slashes and equals": "<a" + of("/=") + ">",
    "scripts without end": of("<script></scrip"),
    "ampersands": of("&"),
    "escaped ampersands": of("&amp;"),
    "no-break spaces": of("\u00a0 "),
    "digits": "&#" + "9" * LENGTH,
    "combining marks": of("\u0300\u0316"),
    "formats that come again": "".join(f"<b a={number}>" for number in range(9_000)) + "<p>x" * 9_000,
    "a long link that comes again": f'<p><a href="http://x/{"y" * 1900}"></p>' + "<p>x" * 19_000,
    "long links in tables": f'<table><a href="http://x/{"y" * 1900}">' * 100 + "<p>x</p>" * 19_000,
    "links in tables in tables": of("<table><a href=http://x/>"),
    "lists in lists": of("<ul><li>x"),
    "quotes in quotes": of("<blockquote>x"),
    "ends of nothing": of("</b>"),
    "a long style": '<p style="' + of("color:rgb(") + '">',
    "a long picture": '<img src="data:image/png;base64,' + of("A ") + '!">',
}

hostile = pytest.mark.parametrize("letter", HOSTILE.values(), ids=HOSTILE)


@hostile
def test_text_of_a_hostile_letter(letter: str) -> None:
    """Three megabytes written to take for ever are read in seconds, and become no multiple of themselves."""
    assert len(as_text(letter)) <= 3 * len(letter) + 100


@hostile
def test_a_hostile_letter_is_shown(letter: str) -> None:
    """The same letters are shown, as HTML or as their text, in seconds too, and do not grow beyond a bound."""
    assert len(shown(letter)) <= MOST_GROWTH * len(letter) + 1000
