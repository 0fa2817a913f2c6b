"""The HTML of a form for a service, to paste into a page: plain, accessible, and at home under a strict content policy.

Pure. Without the script a browser shows our JSON as a page of its own; with it the answer stands in the form. The script
is a file, because a strict Content-Security-Policy runs nothing that stands in the page.
"""

from dataclasses import dataclass
from html import escape
from string import Template

from mailroom.settings import EmailOptions

#: Characters and bytes that the form API takes (docs/form-api.md).
LONGEST_NAME = 256
LONGEST_SUBJECT = 1000
LONGEST_TEXT = 65_536

_KB, _MB = 1024, 1024**2


@dataclass(frozen=True, slots=True)
class _Field:
    """One line of text: its parameter, its label, and what browsers may know of it."""

    name: str
    label: str
    kind: str
    autocomplete: str
    longest: int


_LINES = (
    _Field("firstName", "First name", "text", "given-name", LONGEST_NAME),
    _Field("lastName", "Last name", "text", "family-name", LONGEST_NAME),
    _Field("fromAddress", "E-mail address", "email", "email", LONGEST_NAME),
    _Field("subject", "Subject", "text", "off", LONGEST_SUBJECT),
)

_LINE = Template("""\
  <p>
    <label for="$id">$label</label>
    <input id="$id" name="$name" type="$kind" autocomplete="$autocomplete" maxlength="$longest" required>
  </p>
""")

_TEXT = Template("""\
  <p>
    <label for="$id">Message</label>
    <textarea id="$id" name="text" rows="8" maxlength="$longest" required></textarea>
  </p>
""")

_FILES = Template("""\
  <p>
    <label for="$id">$label</label>
    <input id="$id" name="files" type="file" accept="$accept" aria-describedby="$id-hint"$multiple>
    <span id="$id-hint">$hint</span>
  </p>
""")

_FORM = Template("""\
<form class="mailroom" action="$endpoint" method="post" enctype="multipart/form-data" accept-charset="utf-8"$key>
$fields  <p>
    <button type="submit">Send</button>
  </p>
  <p role="status"></p>
</form>
""")

#: Tells the answer in the form. The page's origin has to be one of `allowed_origins`, unless the page is served by us.
FORM_SCRIPT = """\
for (const form of document.querySelectorAll("form.mailroom")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const status = form.querySelector("[role=status]");
    const button = form.querySelector("button");
    button.disabled = true;
    status.textContent = "Sending…";
    try {
      const headers = form.dataset.apikey ? { apikey: form.dataset.apikey } : {};
      const answer = await fetch(form.getAttribute("action"), { method: "POST", body: new FormData(form), headers });
      const told = await answer.json();
      if (told.statusCode === 0) {
        form.reset();
        status.textContent = "Thank you. Your message was received.";
      } else if (told.errors) {
        status.textContent = told.errors.map((one) => sentence(one)).join(" ");
      } else {
        status.textContent = "This did not work at the moment. Please try again in a minute.";
      }
    } catch {
      status.textContent = "There is no connection. Please try again in a minute.";
    }
    button.disabled = false;
  });
}

function sentence({ code, advice }) {
  if (code === 201) return `At most ${advice} files can be sent.`;
  if (code === 202) return `The files may have ${advice} bytes together.`;
  return String(advice);
}
"""


def form_html(service: str, options: EmailOptions, endpoint: str) -> str:
    """A form that posts to this endpoint what the service takes. One with API keys needs the script, and a key in it."""
    prefix = f"mailroom-{service}"
    lines = [
        _LINE.substitute(
            id=escape(f"{prefix}-{one.name}"), name=one.name, label=one.label, kind=one.kind,
            autocomplete=one.autocomplete, longest=one.longest,
        )
        for one in _LINES
    ]  # fmt: skip
    text = _TEXT.substitute(id=escape(f"{prefix}-text"), longest=LONGEST_TEXT)
    return _FORM.substitute(
        endpoint=escape(endpoint),
        key=' data-apikey="PUT A KEY OF THIS SERVICE HERE"' if options.api_keys else "",
        fields="".join([*lines, text, _files(prefix, options)]),
    )


def _files(prefix: str, options: EmailOptions) -> str:
    if options.max_files == 0 or not options.file_types:
        return ""
    types = ", ".join(options.file_types)
    several = options.max_files > 1
    number = (
        f"At most {options.max_files} files, {_size(options.max_size)} together" if several else _size(options.max_size)
    )
    return _FILES.substitute(
        id=escape(f"{prefix}-files"),
        label="Files" if several else "File",
        accept=escape(",".join(f".{extension}" for extension in options.file_types)),
        multiple=" multiple" if several else "",
        hint=escape(f"{number}: {types}." if several else f"At most {number}: {types}."),
    )


def _size(size: int) -> str:
    if size >= _MB:
        return f"{size / _MB:.3g} MB"
    return f"{size / _KB:.3g} KB" if size >= _KB else f"{size} bytes"
