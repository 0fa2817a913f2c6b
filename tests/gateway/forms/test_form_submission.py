"""The rules of a form submission."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forms.problems import Code, Problem
from gateway.forms.raw import RawFile, RawForm
from gateway.forms.submission import LONGEST_KEY, LONGEST_NAME, LONGEST_SUBJECT, Submission, check, too_big_for
from mailroom.message import Attachment
from mailroom.settings import EmailOptions

FIELDS = {
    "firstName": "John",
    "lastName": "Doe",
    "fromAddress": "john@example.org",
    "subject": "My order",
    "text": "Where is it?",
}
OPTIONS = EmailOptions(mailbox="support@company.com", tenant="Environment")


def a_form(*more: tuple[str, str], files: tuple[RawFile, ...] = (), **changed: str) -> RawForm:
    """A complete form, with some fields changed and others added."""
    return RawForm(fields=(*(FIELDS | changed).items(), *more), files=files)


def a_form_where(field: str, value: str) -> RawForm:
    """A complete form but for one field."""
    return RawForm(fields=tuple((FIELDS | {field: value}).items()))


def a_file(name: str = "a.txt", content: bytes = b"hello") -> RawFile:
    """A file as the reader hands it on."""
    return RawFile(name=name, size=len(content), head=content[:2048], content=content)


def submission_of(form: RawForm, options: EmailOptions = OPTIONS, default: str | None = None) -> Submission:
    """The submission of a form that has to be valid."""
    submission = check(form, "billing", options, default)
    assert isinstance(submission, Submission), submission
    return submission


def problems_of(form: RawForm, options: EmailOptions = OPTIONS, default: str | None = None) -> list[Problem]:
    """The problems of a form that must not be valid."""
    problems = check(form, "billing", options, default)
    assert isinstance(problems, list), problems
    return problems


def codes_of(form: RawForm, options: EmailOptions = OPTIONS, default: str | None = None) -> list[int]:
    """The codes of these problems, in order."""
    return [int(problem.code) for problem in problems_of(form, options, default)]


def test_complete_form() -> None:
    """A complete form is a submission to the service's mailbox, with its tenant."""
    assert submission_of(a_form()) == Submission(
        service="billing",
        first_name="John",
        last_name="Doe",
        from_address="john@example.org",
        subject="My order",
        text="Where is it?",
        mailbox="support@company.com",
        tenant="Environment",
    )


@pytest.mark.parametrize("empty", ["", "  ", "\r\n", "\x00", "\t"])
@pytest.mark.parametrize(
    ("field", "code"), [("firstName", 102), ("lastName", 103), ("subject", 104), ("fromAddress", 181), ("text", 182)]
)
def test_empty_is_missing(field: str, code: int, empty: str) -> None:
    """A required field that is empty or blank is missing, with its own code."""
    assert codes_of(a_form_where(field, empty)) == [code]


def test_all_problems_at_once() -> None:
    """An empty form with bad files is told all that is wrong with it in one answer."""
    options = EmailOptions(max_files=1, max_size=5)
    form = RawForm(files=(a_file("a.exe"), a_file("b.pdf")))

    assert sorted(codes_of(form, options)) == [102, 103, 104, 181, 182, 201, 202, 203, 383]


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (RawForm(), EmailOptions()),
        (a_form(fromAddress="no address", mailbox="other@company.com"), OPTIONS),
        (a_form(firstName="x" * 300, files=(a_file("a.exe"), a_file())), replace(OPTIONS, max_files=1, max_size=1)),
    ],
)
def test_every_problem_has_advice(form: RawForm, options: EmailOptions) -> None:
    """The advice of 201 and 202 is the limit as a number, every other a sentence."""
    for problem in problems_of(form, options):
        if problem.code in (201, 202):
            assert problem.advice == 1
        else:
            assert str(problem.advice).endswith(".")


def test_problems_of_the_reader_are_told() -> None:
    """What the reader found wrong is told with the rest."""
    found = Problem(Code.TOO_LONG, "text is longer than 65536 bytes.")

    assert problems_of(replace(a_form(), problems=(found,))) == [found]


@pytest.mark.parametrize(
    ("field", "longest"), [("firstName", LONGEST_NAME), ("lastName", LONGEST_NAME), ("subject", LONGEST_SUBJECT)]
)
def test_longest_line(field: str, longest: int) -> None:
    """A name or subject of the greatest length passes, one character more is code 204."""
    submission_of(a_form_where(field, "x" * longest))

    assert codes_of(a_form_where(field, "x" * (longest + 1))) == [204]


def test_fields_are_cleaned() -> None:
    """Line breaks and controls never get past the door; the text keeps its lines."""
    form = a_form(
        ("userData", "k\r\ney=v\nalue"), firstName="Jo\x00hn\r\nBcc: x", subject="a\u2028b", text="one\r\ntwo\x00"
    )
    submission = submission_of(form)

    assert submission.first_name == "John Bcc: x"
    assert submission.subject == "a b"
    assert submission.text == "one\ntwo"
    assert submission.user_data == (("k ey", "v alue"),)


def test_int_10_first_of_repeated_fields_counts() -> None:
    """Of a field that may be given once the first value counts, even an empty one."""
    assert submission_of(a_form(("subject", "another"))).subject == "My order"
    assert codes_of(a_form(("subject", "another"), subject="")) == [104]


def test_unknown_fields_are_ignored() -> None:
    """Fields that the API does not know change nothing."""
    assert submission_of(a_form(("_charset_", "punycode"), ("submit", "Send"))) == submission_of(a_form())


@pytest.mark.parametrize("address", ["john", "john@", "a@b@example.org", "john@example.org, eve@example.org"])
def test_bad_from_address(address: str) -> None:
    """A from address that is none is code 381."""
    assert codes_of(a_form(fromAddress=address)) == [381]


def test_from_address_is_normalised() -> None:
    """The from address loses blanks around it and keeps its local part's case."""
    assert submission_of(a_form(fromAddress=" John@Example.ORG ")).from_address == "John@example.org"


@pytest.mark.parametrize(
    ("name", "value", "pair"),
    [
        ("userData", "order=42", ("order", "42")),
        ("userData", "k2=a=b", ("k2", "a=b")),
        ("userData", "flag", ("flag", "")),
        ("userData", "empty=", ("empty", "")),
        ("userData[]", "order=42", ("order", "42")),
        ("userData[order]", "4=2", ("order", "4=2")),
        ("userData[a][b]", "c", ("a][b", "c")),
    ],
)
def test_user_data(name: str, value: str, pair: tuple[str, str]) -> None:
    """User data comes as key=value, parted at the first =, or in brackets as Chat clients write it."""
    assert submission_of(a_form((name, value))).user_data == (pair,)


@pytest.mark.parametrize(
    ("name", "value"), [("userData", "=x"), ("userData", ""), ("userDatum", "a=b"), ("userDataX", "a=b")]
)
def test_no_user_data(name: str, value: str) -> None:
    """What has no key, or another name, is no user data."""
    assert submission_of(a_form((name, value))).user_data == ()


def test_int_10_user_data_repeats() -> None:
    """User data keeps its order and its repetitions."""
    form = a_form(("userData", "a=1"), ("userData[b]", "2"), ("userData", "a=3"))

    assert submission_of(form).user_data == (("a", "1"), ("b", "2"), ("a", "3"))


def test_int_3_most_user_data() -> None:
    """50 user data pass, 51 are refused; so is a key of more than 256 characters."""
    fifty = [("userData", f"k{number}=v") for number in range(50)]
    submission_of(a_form(*fifty))
    submission_of(a_form(("userData", "k" * LONGEST_KEY + "=v")))

    assert codes_of(a_form(*fifty, ("userData", "one=more"))) == [204]
    assert codes_of(a_form(("userData", "k" * (LONGEST_KEY + 1) + "=v"))) == [204]


ALLOWING = EmailOptions(mailbox="Support@company.com", allowed_mailboxes=("*@company.com", "Sales@partner.example"))


@pytest.mark.parametrize(
    ("asked", "options", "default", "mailbox"),
    [
        (None, ALLOWING, "default@company.com", "Support@company.com"),
        (None, EmailOptions(), "default@company.com", "default@company.com"),
        ("", ALLOWING, None, "Support@company.com"),
        ("support@COMPANY.com", EmailOptions(mailbox="Support@company.com"), None, "Support@company.com"),
        ("default@company.com", EmailOptions(), "default@company.com", "default@company.com"),
        ("Billing@Company.Com", ALLOWING, None, "Billing@company.com"),
        ("sales@PARTNER.example", ALLOWING, None, "Sales@partner.example"),
        ("x@müller.de", EmailOptions(allowed_mailboxes=("*@Müller.de",)), None, "x@xn--mller-kva.de"),
    ],
)
def test_mailbox(asked: str | None, options: EmailOptions, default: str | None, mailbox: str) -> None:
    """The request's mailbox beats the service's, which beats the integration's; known ones keep the operator's case."""
    form = a_form() if asked is None else a_form(mailbox=asked)

    assert submission_of(form, options, default).mailbox == mailbox


@pytest.mark.parametrize(
    ("asked", "options", "default"),
    [
        ("eve@evil.example", ALLOWING, None),
        ("eve@sub.company.com", ALLOWING, None),
        ("eve@evilcompany.com", ALLOWING, None),
        ("other@partner.example", ALLOWING, None),
        ("billing@company.com", EmailOptions(mailbox="support@company.com"), None),
        ("default@company.com", EmailOptions(mailbox="support@company.com"), "default@company.com"),
        ("eve@evil.example", EmailOptions(allowed_mailboxes=("*", "*@", "@", "", "*@*")), None),
        ("a@company.com,eve@evil.example", ALLOWING, None),
        ("eve%evil.example@company.com", ALLOWING, None),
        ("not an address", ALLOWING, None),
        (None, EmailOptions(), None),
        (None, EmailOptions(mailbox="not an address"), "default@company.com"),
    ],
)
def test_sec_3_mailbox_refused(asked: str | None, options: EmailOptions, default: str | None) -> None:
    """No client can have mail sent where the operator did not allow it, and without any mailbox nothing is accepted."""
    form = a_form() if asked is None else a_form(mailbox=asked)

    assert codes_of(form, options, default) == [383]


def test_attachments() -> None:
    """Files become attachments with a clean name and our media type; a stored one keeps its key."""
    stored = RawFile(name="big.ZIP", size=2_000_000, head=b"PK\x03\x04", key="k")
    files = (a_file("../a.txt"), a_file("a.txt"), a_file(""), stored)

    assert submission_of(a_form(files=files)).attachments == (
        Attachment(name="a.txt", media_type="text/plain", size=5, content=b"hello"),
        Attachment(name="a (2).txt", media_type="text/plain", size=5, content=b"hello"),
        Attachment(name="attachment-3.txt", media_type="text/plain", size=5, content=b"hello"),
        Attachment(name="big.ZIP", media_type="application/zip", size=2_000_000, key="k"),
    )


def test_limits_of_files() -> None:
    """As many files, and as many bytes, as the service allows pass; one more is refused with the limit as advice."""
    options = replace(OPTIONS, max_files=2, max_size=10)
    submission_of(a_form(files=(a_file(), a_file())), options)

    assert [(p.code, p.advice) for p in problems_of(a_form(files=(a_file("a.txt", b""),) * 3), options)] == [(201, 2)]
    assert [(p.code, p.advice) for p in problems_of(a_form(files=(a_file("a.txt", b"x" * 11),)), options)] == [
        (202, 10)
    ]


@pytest.mark.parametrize(
    "file",
    [
        a_file("virus.exe"),
        a_file("a.pdf.exe"),
        a_file("a.jpeg", b"\xff\xd8\xff"),
        a_file("a.docx", b"PK\x03\x04"),
        a_file("a.pdf", b"MZ\x90\x00"),
        a_file("noextension"),
        a_file("a.txt", b"nul\x00"),
        a_file("", b"\x00\x02"),
        RawFile(name="late.txt", size=2_000_000, head=b"\x00", key="k"),
    ],
)
def test_int_7_file_type_refused(file: RawFile) -> None:
    """A file is refused as 203 unless its extension is allowed and its bytes agree."""
    assert codes_of(a_form(files=(file,))) == [203]


def test_file_types_replace_the_default() -> None:
    """The operator's list replaces the default one wholly."""
    options = replace(OPTIONS, file_types=("jpeg",))
    submission_of(a_form(files=(a_file("a.JPEG", b"\xff\xd8\xff"),)), options)

    assert codes_of(a_form(files=(a_file("a.txt"),)), options) == [203]


def with_files(*sizes: int) -> Submission:
    """A submission with files of these sizes."""
    files = (Attachment(name="a.zip", media_type="application/zip", size=size, key="k") for size in sizes)
    return replace(submission_of(a_form()), attachments=tuple(files))


@pytest.mark.parametrize("ehlo_size", [None, 0])
def test_server_without_limit(ehlo_size: int | None) -> None:
    """A server that announces no SIZE, or 0, takes anything."""
    assert too_big_for(ehlo_size, with_files(10**9)) is None


def test_default_postfix_and_a_full_form() -> None:
    """10 MiB of files would bounce at a default Postfix: refused as 202 with what would fit, about 7.4 MB."""
    problem = too_big_for(10_240_000, with_files(10 * 1024 * 1024))

    assert problem is not None
    assert problem.code == 202
    assert 7_400_000 < int(problem.advice) < 7_490_000


def test_text_alone_too_big() -> None:
    """Without files it is the text that is too long."""
    problem = too_big_for(10_000, replace(with_files(), text="x" * 10_000))

    assert problem is not None
    assert problem.code == 204


def test_nothing_fits() -> None:
    """Advice is never less than no bytes at all."""
    problem = too_big_for(1000, with_files(1))

    assert problem is not None
    assert (problem.code, problem.advice) == (202, 0)


@given(st.integers(1, 2_000_000), st.lists(st.integers(0, 300_000), min_size=1, max_size=10))
def test_what_fits_fits(ehlo_size: int, sizes: list[int]) -> None:
    """The advised number of bytes passes, one more does not, and what passes is smaller than SIZE when encoded."""
    problem = too_big_for(ehlo_size, with_files(*sizes))
    encoded = sum(len(base64.encodebytes(bytes(size))) + size // 57 + 1 for size in sizes)

    if problem is None:
        assert encoded < ehlo_size
    else:
        rest = [0] * (len(sizes) - 1)
        room = int(problem.advice)
        assert too_big_for(ehlo_size, with_files(room, *rest)) is None or room == 0
        assert too_big_for(ehlo_size, with_files(room + 1, *rest)) is not None
