"""Bodies that others collected to break parsers of forms, sent to a gateway that listens."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from gateway.text import clean_line
from mailroom.addresses import check_address
from mailroom.store.content import decode_content
from mailroom.store.messages import body_of
from tests.gateway.forms.live import Caller, calling, listening, never_stalled
from tests.journeys.office import FORM, Office

CORPORA = Path(__file__).parents[2] / "corpora"

#: Codes for what is missing in a form that was read, and for files that are none of ours.
MISSING = {102, 103, 104, 181, 182}
FILES = {201, 203}

#: What we judge otherwise than who collected it, and why.
ENCODED = "RFC 7578 section 4.7: nobody sends base64 or quoted-printable in a form, so nobody need guess what was meant"
LIKE_A_BOUNDARY = (
    "a line that begins like the boundary ends the part by RFC 2046 section 5.1.1, or is an attempt to hide one"
)
NOT_ALL_ASKED_FOR = "every part has a Content-Disposition and a name"
LINE_ENDS = "lines end in CR LF, or a proxy reads another form than we do"
NO_FORM = "a part without a name is no part of a form"
BEFORE_AND_BEHIND = "what stands before the first boundary and behind the last is ignored"
OTHERWISE: dict[str, dict[str, str]] = {
    "python-multipart": {
        "almost_match_boundary_without_CR": LIKE_A_BOUNDARY,
        "almost_match_boundary_without_LF": LIKE_A_BOUNDARY,
        "almost_match_boundary_without_final_hyphen": LIKE_A_BOUNDARY,
        "bad_initial_boundary": BEFORE_AND_BEHIND,
        "base64_encoding": ENCODED,
        "base64_encoding_whitespace": ENCODED,
        "boundary_padding": LIKE_A_BOUNDARY,
        "header_with_number": "a header's name is of letters, digits and dashes",
        "mixed_case_headers": ENCODED,
        "mixed_plain_and_base64_encoding": ENCODED,
        "non_ascii_whitespace_before_filename": "headers are UTF-8",
        "quoted_printable_encoding": ENCODED,
        "single_field_blocks": LINE_ENDS,
    },
    "multipart": {"21: TestPushParser.data_after_eof": BEFORE_AND_BEHIND},
    "busboy": {
        "multipart 8: Empty content-type and empty content-disposition": NOT_ALL_ASKED_FOR,
        "multipart 17: No Content-Disposition": NOT_ALL_ASKED_FOR,
        "multipart 24: Header size limit should be per part": "a header may have 4,096 bytes",
        "multipart 25: Empty part": "a part must not be compressed",
    },
    "fastify-busboy": {
        "multipart 13: Empty content-type and empty content-disposition": NOT_ALL_ASKED_FOR,
        "multipart 22: one empty part should get ignored": NOT_ALL_ASKED_FOR,
        "multipart 25: multiple empty parts should get ignored": NOT_ALL_ASKED_FOR,
    },
    "multipart-form-data-conformance": {
        "061-lf-only-lenient": LINE_ENDS,
        "062-mixed-endings": LINE_ENDS,
        "208-duplicate-headers": "which of two dispositions counts would be anybody's guess",
    },
}


def cases(corpus: str) -> list[dict[str, Any]]:
    """What a corpus holds."""
    found: list[dict[str, Any]] = json.loads((CORPORA / corpus / "cases.json").read_text())
    return found


def verdict(answer: tuple[int, dict[str, Any]]) -> str:
    """What became of a body: accepted, read, or refused as malformed or unsupported; what must not be, as it is."""
    status, body = answer
    codes = {error["code"] for error in body.get("errors", ())}
    match status, body["statusCode"]:
        case 200, 0:
            return "accepted"
        case 400, 1 if codes and codes <= MISSING | FILES:
            return "read"
        case 400, 1 if codes == {400}:
            return "malformed"
        case 415, 1 if codes == {415}:
            return "unsupported"
    return str(answer)


def completed(content_type: str, body: bytes) -> bytes:
    """The same body with all fields that a form needs before its own."""
    if content_type.startswith("application/"):
        return urlencode(FORM).encode() + b"&" + body
    boundary = content_type.partition("boundary=")[2].strip('"').encode("latin-1")
    parts = (
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary, name.encode(), value.encode())
        for name, value in FORM.items()
    )
    return b"".join(parts) + body.removeprefix(b"\r\n")


async def verdicts(caller: Caller, case: dict[str, Any]) -> tuple[str, str]:
    """What becomes of a case as it is, and behind a complete form; however it is cut."""
    content_type, body = case["content_type"], case["body"].encode("latin-1")
    found = []
    for sent in (body, completed(content_type, body)):
        whole = verdict(await caller.post(content_type, sent))
        pieces = [sent[at : at + 7] for at in range(0, min(len(sent), 700), 7)] + [sent[700:]]
        assert verdict(await caller.post_chunked(content_type, pieces)) == whole, case["name"]
        found.append(whole)
    return found[0], found[1]


@pytest.mark.parametrize("corpus", OTHERWISE)
async def test_int_1_every_collected_body_gets_its_verdict(tmp_path: Path, sqlite_file: Path, corpus: str) -> None:
    """What is a form is read, what is none is 400 as malformed; whole or in pieces, and nothing stalls or stays silent."""
    found = {}
    async with listening(tmp_path, sqlite_file) as office, calling(office) as caller, never_stalled():
        for case in cases(corpus):
            found[case["name"]] = await verdicts(caller, case)

    wrong = {
        name: (alone, behind)
        for name, (alone, behind) in found.items()
        if alone not in {"read", "malformed"} or behind not in {"accepted", "read", "malformed"}
    }
    assert wrong == {}
    differ = {
        case["name"] for case in cases(corpus)
        if case["valid"] is not None and case["valid"] != (found[case["name"]][1] != "malformed")
    }  # fmt: skip
    assert differ == set(OTHERWISE[corpus])


#: Diagnoses of addresses that a server could deliver to: nobody here asks the DNS whether it does.
PLAIN = {"valid", "dnsWarnNoRecord", "dnsWarnNoMXRecord"}
#: Plain by the RFC, and no address of ours: a host without a dot, and signs that route mail through a third host.
NARROWER = {"test@io", "!#$%&`*+/=?^`{|}~@iana.org"}
ADDRESSES = [(str(one[0]), str(one[1])) for one in json.loads((CORPORA / "isemail" / "cases.json").read_text())]


@pytest.mark.parametrize(("address", "diagnosis"), ADDRESSES, ids=range(len(ADDRESSES)))
def test_sec_2_collected_addresses_pass_only_when_plain(address: str, diagnosis: str) -> None:
    """Of all that the RFCs allow only plain addresses pass, and they pass unchanged but for the case of their domain."""
    local, _, domain = address.rpartition("@")
    plain = diagnosis in PLAIN and address not in NARROWER

    assert check_address(address) == (f"{local}@{domain.lower()}" if plain else None)


async def test_sec_2_collected_addresses_in_a_form(tmp_path: Path, sqlite_file: Path) -> None:
    """As fromAddress and as mailbox an address passes when it is plain once its ends are bare, else its code is told."""
    found, expected = {}, {}
    async with (
        listening(tmp_path, sqlite_file, allowed_mailboxes=("*@iana.org",)) as office,
        calling(office) as caller,
        never_stalled(),
    ):
        for address, _ in ADDRESSES:
            form = urlencode(FORM | {"fromAddress": address, "mailbox": address}).encode()
            status, body = await caller.post("application/x-www-form-urlencoded", form)
            found[address] = (status, {error["code"] for error in body.get("errors", ())})
            plain = check_address(clean_line(address))
            codes = {
                code for code, wrong in (
                    (181, not clean_line(address)),
                    (381, bool(clean_line(address)) and plain is None),
                    (383, bool(clean_line(address)) and (plain is None or not plain.endswith("@iana.org"))),
                ) if wrong
            }  # fmt: skip
            expected[address] = (400 if codes else 200, codes)

    assert found == expected
    assert [status for status, _ in found.values()].count(200) > 5


NAUGHTY: list[str] = json.loads((CORPORA / "blns" / "cases.json").read_text())


def naughty_form(string: str) -> tuple[str, bytes]:
    """A multipart form that says this string wherever something can be said."""
    value = string.encode()
    names = ("firstName", "lastName", "subject", "text", "tenant", "userData[k]", f"userData[{string}]", string)
    fields = [*((name, value) for name in names), ("userData", b"k=" + value), ("fromAddress", b"jane@customer.test")]
    parts = [
        b'--xx\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (quoted(name), content)
        for name, content in fields
    ]
    file = b'--xx\r\nContent-Disposition: form-data; name="files"; filename="%b.txt"\r\n\r\n%b\r\n'
    return "multipart/form-data; boundary=xx", b"".join(parts) + file % (quoted(string), value) + b"--xx--\r\n"


def quoted(name: str) -> bytes:
    """A name as browsers write it."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").encode() or b"empty"


async def refused_of(office: Office, strings: list[str]) -> dict[str, tuple[str, set[int]]]:
    """Which of these are not taken in, in a multipart form and in an urlencoded one without an address, and why."""
    refused = {}
    async with calling(office) as caller:
        for string in strings:
            multipart = await caller.post(*naughty_form(string))
            fields = dict.fromkeys(("firstName", "lastName", "subject", "text", "userData"), string)
            form = urlencode(fields | {string or "empty": string}).encode()
            _, urlencoded = await caller.post("application/x-www-form-urlencoded", form)
            missing = {error["code"] for error in urlencoded["errors"]}
            if (verdict(multipart), missing) != ("accepted", {181}):
                refused[string] = (verdict(multipart), missing)
    return refused


async def test_int_9_naughty_strings_everywhere(tmp_path: Path, sqlite_file: Path) -> None:
    """Whatever is said in every field, name and file name is taken in, unless nothing of it is left to be seen."""
    async with listening(tmp_path, sqlite_file) as office, never_stalled():
        # Several at once, so that they share their commits.
        groups = await asyncio.gather(*(refused_of(office, NAUGHTY[first::16]) for first in range(16)))

    refused = {string: why for group in groups for string, why in group.items()}
    assert refused == {string: ("read", MISSING) for string in NAUGHTY if not clean_line(string)}


async def test_int_1_naughty_strings_as_headers(tmp_path: Path, sqlite_file: Path) -> None:
    """Whatever a client writes into the headers that we read, it gets an answer, and no more is made of it."""
    body = urlencode(FORM | {"subject": ""}).encode()
    verdicts_seen = set()
    async with (
        listening(tmp_path, sqlite_file, allowed_origins=("https://a.test",)) as office,
        calling(office) as caller,
        never_stalled(),
    ):
        for number, string in enumerate(NAUGHTY):
            said = re.sub("[\x00-\x08\x0a-\x1f\x7f]", "", string).encode()[:2000]
            names = (b"apikey", b"Origin", b"X-Forwarded-For", b"ContactCenterId", b"User-Agent", b"Cookie")
            plain = await caller.post(
                "application/x-www-form-urlencoded", body, *(name + b": " + said for name in names)
            )
            assert verdict(plain) == "read", string
            before = (b"", b"multipart/form-data; boundary=", b"application/x-www-form-urlencoded; charset=")[
                number % 3
            ]
            verdicts_seen.add(verdict(await caller.post(before + said, body)))

    assert verdicts_seen == {"read", "malformed", "unsupported"}


@pytest.mark.parametrize(
    "charset",
    ["punycode", "idna", "utf-7", "zlib", "rot13", "unicode_escape", "raw_unicode_escape", "utf-16", "hex", "uu"],
)
async def test_int_2_no_codec_of_a_clients_choice_runs(tmp_path: Path, sqlite_file: Path, charset: str) -> None:
    """The charset that a part, a body or `_charset_` names is not looked at, however long the text: nobody waits for it."""
    text = "\u00fc+AGE-\\u0041-" * 6000
    multipart = b"".join(
        b'--xx\r\nContent-Disposition: form-data; name="%b"\r\nContent-Type: text/plain; charset=%b\r\n\r\n%b\r\n'
        % (name.encode(), charset.encode(), value.encode())
        for name, value in {"_charset_": charset, **FORM, "text": text[:30000]}.items()
    )
    async with listening(tmp_path, sqlite_file) as office, calling(office) as caller, never_stalled():
        in_parts = await caller.post("multipart/form-data; boundary=xx; charset=" + charset, multipart + b"--xx--\r\n")
        kind = f"application/x-www-form-urlencoded; charset={charset}"
        in_pairs = await caller.post(kind, urlencode({"_charset_": charset, **FORM, "text": text[:30000]}).encode())
        long = urlencode({**FORM, "_charset_": charset, "text": text * 3}).encode()
        too_long = await caller.post(kind, long)
        stored = [await stored_text(office, answer) for answer in (in_parts, in_pairs)]

    assert stored == [text[:30000]] * 2
    assert {error["code"] for error in too_long[1]["errors"]} == {204}


async def stored_text(office: Office, answer: tuple[int, dict[str, Any]]) -> str:
    """What an accepted form said, as it is stored, without the lines under it."""
    assert verdict(answer) == "accepted"
    body = await office.store.read(body_of, UUID(answer[1]["interactionId"]))
    return decode_content(body).text.partition("\n\n____")[0]
