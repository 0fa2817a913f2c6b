"""The form to paste: what it posts is what the form API takes, and nothing in it can be anything but text."""

import re
from html.parser import HTMLParser

import pytest

from mailroom.operating.form_html import FORM_SCRIPT, form_html
from mailroom.settings import EmailOptions

ENDPOINT = "https://mail.company.test/genesys/2/email/support"


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.words += data

    def named(self, name: str) -> dict[str, str | None]:
        """The attributes of the one input of this name."""
        [one] = [attributes for _, attributes in self.found if attributes.get("name") == name]
        return one


def a_form(**options: object) -> Tags:
    """The form of a service with these options."""
    return Tags(form_html("support", EmailOptions(**options), ENDPOINT))  # type: ignore[arg-type]  # the tests say which


def test_it_posts_what_the_form_api_takes() -> None:
    """Every parameter that is needed is asked for by its name, in a multipart form in UTF-8 to the endpoint."""
    tags = a_form()
    [form] = [attributes for tag, attributes in tags.found if tag == "form"]

    assert (form["action"], form["method"], form["enctype"], form["accept-charset"]) == (
        ENDPOINT, "post", "multipart/form-data", "utf-8",
    )  # fmt: skip
    for name in ("firstName", "lastName", "fromAddress", "subject", "text"):
        assert "required" in tags.named(name)
    assert "required" not in tags.named("files")


def test_every_field_has_its_label() -> None:
    """Each field is named by a label, and every id is there once."""
    tags = a_form()
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    labelled = [attributes["for"] for tag, attributes in tags.found if tag == "label"]
    fields = [attributes["id"] for tag, attributes in tags.found if tag in {"input", "textarea"}]

    assert sorted(map(str, labelled)) == sorted(map(str, fields))
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("options", "accept", "multiple", "hint"),
    [
        ({"file_types": ("pdf", "jpg")}, ".pdf,.jpg", True, "At most 10 files, 10 MB together: pdf, jpg."),
        ({"file_types": ("pdf",), "max_files": 1, "max_size": 500 * 1024}, ".pdf", False, "At most 500 KB: pdf."),
    ],
)
def test_files_are_asked_for_as_the_service_takes_them(
    options: dict[str, object], accept: str, multiple: bool, hint: str  # noqa: FBT001 - a column of the table
) -> None:  # fmt: skip
    """Types, number and size are those of the service, for the browser and in words."""
    tags = a_form(**options)

    assert tags.named("files")["accept"] == accept
    assert ("multiple" in tags.named("files")) == multiple
    assert hint in tags.words


@pytest.mark.parametrize("options", [{"max_files": 0}, {"file_types": ()}])
def test_a_service_without_files_asks_for_none(options: dict[str, object]) -> None:
    """Where no file can come, there is no field for one."""
    assert not [tag for tag, attributes in a_form(**options).found if attributes.get("type") == "file"]


def test_values_are_escaped() -> None:
    """Whatever the names and options say, they stay inside their attributes."""
    bad = '"><script>alert(1)</script>'
    html = form_html(bad, EmailOptions(file_types=(bad,)), f"https://a.test/{bad}")
    tags = Tags(html)

    assert "<script" not in html
    assert tags.found[0][1]["action"] == f"https://a.test/{bad}"
    assert tags.named("files")["accept"] == f".{bad}"


def test_a_strict_policy_refuses_nothing_of_it() -> None:
    """No script, style or handler stands in the form."""
    html = form_html("support", EmailOptions(api_keys=("secret",)), ENDPOINT)

    assert not re.search(r"<script|<style|style=|\son\w+=|javascript:", html)


def test_a_key_is_asked_for_and_never_told() -> None:
    """A service with keys has a place for one, which the script sends; the keys themselves are not in it."""
    html = form_html("support", EmailOptions(api_keys=("secret",)), ENDPOINT)

    assert "data-apikey" in html
    assert "secret" not in html
    assert "dataset.apikey" in FORM_SCRIPT
    assert "data-apikey" not in form_html("support", EmailOptions(), ENDPOINT)
