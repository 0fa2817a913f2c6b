"""The rules of a form submission: a form becomes something we can promise to send, or the list of all that is wrong.

Pure: no clock, no I/O. A field that may be given once counts by its first value; later ones are ignored. Names that the
API does not know are ignored too. An empty field, or one of spaces only, is a missing one.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.filenames import clean_name, extension_of, numbered
from gateway.forms.filetypes import bytes_agree, guessed_extension, media_type_of
from gateway.forms.problems import Code, Problem
from gateway.forms.raw import RawFile, RawForm
from gateway.text import clean_line, clean_text
from mailroom.addresses import check_address
from mailroom.encoding import LINE_OF_BYTES, LINE_ON_WIRE, before_encoding
from mailroom.message import Attachment
from mailroom.settings import EmailOptions

#: Characters. The widgets stop their users at 100, so these only stop programs.
LONGEST_NAME = 256
LONGEST_SUBJECT = 1000
LONGEST_KEY = 256
MOST_USER_DATA = 50

#: Our own header lines, the boundaries and the lines of the block under the text, generously.
_LETTER_OVERHEAD = 8192
#: The header lines of one attachment without its name, and its last line of base64.
_ATTACHMENT_OVERHEAD = 512 + LINE_ON_WIRE
#: A character of a header may be written as an encoded word (RFC 2047): four times its bytes covers any of them.
_ENCODED_WORD = 4


# Nobody changes one, but it is not frozen: to make a frozen one takes three times as long, thousands of times a second.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Submission:
    """A valid request to send one message. If you hold one, it has been checked."""

    service: str
    first_name: str
    last_name: str
    from_address: str
    subject: str
    text: str
    mailbox: str
    tenant: str | None = None
    user_data: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()


def check(
    form: RawForm, service: str, options: EmailOptions, integration_default_mailbox: str | None
) -> Submission | list[Problem]:
    """A submission to this service, or all problems of the form at once."""
    problems = list(form.problems)
    values: dict[str, str] = {}
    for name, value in form.fields:
        values.setdefault(name, value)
    submission = Submission(
        service=clean_line(service),
        first_name=_line(values, "firstName", Code.FIRST_NAME_MISSING, LONGEST_NAME, problems),
        last_name=_line(values, "lastName", Code.LAST_NAME_MISSING, LONGEST_NAME, problems),
        from_address=_from_address(values, problems),
        subject=_line(values, "subject", Code.SUBJECT_MISSING, LONGEST_SUBJECT, problems),
        text=_text(values, problems),
        mailbox=_mailbox(values, options, integration_default_mailbox, problems),
        tenant=options.tenant,
        user_data=_user_data(form.fields, problems),
        attachments=_attachments(form.files, options, problems) if form.files else (),
    )
    return problems or submission


def too_big_for(ehlo_size: int | None, submission: Submission) -> Problem | None:
    """The problem when this cannot pass a server that announced this SIZE (RFC 1870): a mail it would bounce for ever.

    The advice is how many bytes of attachments would pass. None and 0 mean that the server has no such limit.
    """
    if not ehlo_size:
        return None
    files = sum(attachment.size for attachment in submission.attachments)
    room = before_encoding(ehlo_size - _size_without_files(submission))
    if files <= room:
        return None
    if not submission.attachments:
        return Problem(Code.TOO_LONG, "The text is too long for the mail server that has to take it.")
    return Problem(Code.FILES_TOO_LARGE, max(0, room))


def _size_without_files(submission: Submission) -> int:
    """Bytes on the wire that attachments of any size come on top of; an upper bound."""
    in_headers = [submission.first_name, submission.last_name, submission.from_address, submission.subject]
    in_headers += [submission.service, submission.tenant or "", submission.mailbox]
    in_headers += [part for pair in submission.user_data for part in pair]
    in_headers += [attachment.name for attachment in submission.attachments]
    header_bytes = sum(len(part.encode()) for part in in_headers)
    # What stands in the headers stands in the text as well.
    text_bytes = len(submission.text.encode()) + submission.text.count("\n") + header_bytes
    return (
        _LETTER_OVERHEAD
        + (text_bytes // LINE_OF_BYTES + 1) * LINE_ON_WIRE
        + header_bytes * _ENCODED_WORD
        + len(submission.attachments) * _ATTACHMENT_OVERHEAD
    )


def _line(values: dict[str, str], field: str, missing: Code, longest: int, problems: list[Problem]) -> str:
    value = clean_line(values.get(field, ""))
    if not value:
        problems.append(Problem(missing, f"{field} is missing."))
    elif len(value) > longest:
        problems.append(Problem(Code.TOO_LONG, f"{field} is longer than {longest} characters."))
    return value


def _text(values: dict[str, str], problems: list[Problem]) -> str:
    text = clean_text(values.get("text", ""))
    if not text or text.isspace():
        problems.append(Problem(Code.TEXT_MISSING, "text is missing."))
    return text


def _from_address(values: dict[str, str], problems: list[Problem]) -> str:
    given = clean_line(values.get("fromAddress", ""))
    if not given:
        problems.append(Problem(Code.FROM_ADDRESS_MISSING, "fromAddress is missing."))
        return ""
    address = check_address(given)
    if address is None:
        problems.append(Problem(Code.FROM_ADDRESS_INVALID, "fromAddress is not a valid e-mail address."))
        return ""
    return address


#: What is configured is asked about again with every form.
_checked = functools.lru_cache(maxsize=1024)(check_address)


def _mailbox(
    values: dict[str, str], options: EmailOptions, integration_default: str | None, problems: list[Problem]
) -> str:
    """The request's mailbox, else the service's, else the integration's; a stranger may only name an allowed one."""
    configured = options.mailbox or integration_default
    own = _checked(configured) if configured else None
    given = clean_line(values.get("mailbox", ""))
    if given:
        allowed = _allowed_mailbox(given, own, options.allowed_mailboxes)
        if allowed is not None:
            return allowed
        advice = "mailbox is not a mailbox that this service may write to."
    elif own is not None:
        return own
    elif configured:
        advice = "The mailbox configured for this service is not a valid address; its operator has to correct it."
    else:
        advice = "This service has no mailbox: its operator has to configure one, or the request has to name one."
    problems.append(Problem(Code.MAILBOX_INVALID, advice))
    return ""


def _allowed_mailbox(given: str, own: str | None, patterns: Iterable[str]) -> str | None:
    """The address to write to. A known one is written as its operator wrote it, since local parts may heed case."""
    address = check_address(given)
    if address is None:
        return None
    if own is not None and own.lower() == address.lower():
        return own
    for pattern in patterns:
        local_part, _, domain = pattern.strip().rpartition("@")
        listed = check_address(f"any@{domain}" if local_part == "*" else pattern.strip())
        if listed is None:
            continue
        if local_part == "*" and listed.rpartition("@")[2] == address.rpartition("@")[2]:
            return address
        if local_part != "*" and listed.lower() == address.lower():
            return listed
    return None


def _user_data(fields: Iterable[tuple[str, str]], problems: list[Problem]) -> tuple[tuple[str, str], ...]:
    """Keys and values in the order given, from `userData` = `key=value` and from `userData[key]` = `value`."""
    pairs: list[tuple[str, str]] = []
    for name, value in fields:
        if not name.startswith("userData"):
            continue
        if name in ("userData", "userData[]"):
            key, _, data = value.partition("=")
        elif name.startswith("userData[") and name.endswith("]"):
            key, data = name[len("userData[") : -1], value
        else:
            continue
        key = clean_line(key)
        if key:
            pairs.append((key, clean_line(data)))
    if len(pairs) > MOST_USER_DATA:
        problems.append(Problem(Code.TOO_LONG, f"There are more than {MOST_USER_DATA} userData."))
    if any(len(key) > LONGEST_KEY for key, _ in pairs):
        problems.append(Problem(Code.TOO_LONG, f"A key of userData is longer than {LONGEST_KEY} characters."))
    return tuple(pairs)


def _attachments(files: tuple[RawFile, ...], options: EmailOptions, problems: list[Problem]) -> tuple[Attachment, ...]:
    if len(files) > options.max_files:
        problems.append(Problem(Code.TOO_MANY_FILES, options.max_files))
    if sum(file.size for file in files) > options.max_size:
        problems.append(Problem(Code.FILES_TOO_LARGE, options.max_size))
    names = numbered(
        clean_name(file.name, position, guessed_extension(file.head, file.size))
        for position, file in enumerate(files, start=1)
    )
    attachments = tuple(_attachment(file, name) for file, name in zip(files, names, strict=True))
    refused = [
        name for file, name in zip(files, names, strict=True) if not _type_is_allowed(file, name, options.file_types)
    ]
    if refused:
        advice = (
            f"Not allowed: {', '.join(refused)}. Allowed are {', '.join(options.file_types)}, each being what it says."
        )
        problems.append(Problem(Code.FILE_TYPE_NOT_ALLOWED, advice))
    return attachments


def _type_is_allowed(file: RawFile, name: str, allowed: Iterable[str]) -> bool:
    extension = extension_of(name)
    sample = file.head if file.content is None else file.content
    return extension in allowed and bytes_agree(extension, sample, file.size)


def _attachment(file: RawFile, name: str) -> Attachment:
    return Attachment(
        name=name,
        media_type=media_type_of(extension_of(name)),
        size=file.size,
        content=file.content,
        key=file.key,
    )
