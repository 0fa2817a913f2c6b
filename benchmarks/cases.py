"""The submissions that are measured: what is sent, over how many connections, and how often at a steady rate."""

import functools
import random
from dataclasses import dataclass
from urllib.parse import urlencode

#: Where every stack takes submissions.
PLACE = "/genesys/2/email/support"

#: What a submission is recognised by when it arrives as mail; it stands in the subject.
_MARK = b"bench00000000x"

_FIELDS = {
    "firstName": "Jane",
    "lastName": "Doe",
    "fromAddress": "jane@customer.test",
    "subject": f"A question {_MARK.decode()}",
    "text": "Where is my parcel? It was promised for Monday.",
    "userData": "order=17",
}
_BOUNDARY = "----------------bench5f0c2b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of submission, and the load it comes in."""

    name: str
    title: str
    #: Bytes of the file, none without one.
    file_size: int = 0
    multipart: bool = True
    connections: int = 64
    #: Submissions per second of a steady load.
    rate: float = 100.0
    #: Seconds that answers may still take after the load's last request.
    grace: float = 0.5
    #: The part of a window's usual time that is enough.
    window: float = 1.0
    #: Mails that a relay is given in its place, which takes no forms.
    mails: int = 2000

    @property
    def content_type(self) -> str:
        """The header that goes with the body."""
        return f"multipart/form-data; boundary={_BOUNDARY}" if self.multipart else "application/x-www-form-urlencoded"

    @property
    def body(self) -> bytes:
        """What is sent, the same each time."""
        return _body(self.multipart, self.file_size)

    @property
    def mail_size(self) -> int:
        """Bytes of the mail that becomes of it, about: files are in base64."""
        return 400 + self.file_size * 77 // 57

    def numbered(self, number: int) -> bytes:
        """The same submission, recognised by this number when it arrives as mail."""
        return self.body.replace(_MARK, b"bench%08dx" % number, 1)


@functools.cache
def _body(multipart: bool, file_size: int) -> bytes:  # noqa: FBT001 - of this file alone
    if not multipart:
        return urlencode(_FIELDS).encode()
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in _FIELDS.items()]
    whole = "".join(f"--{_BOUNDARY}\r\n{part}\r\n" for part in parts).encode()
    if file_size:
        # Random, so that nobody wins by compressing it; the same in every run.
        data = b"%PDF-1.7\n" + random.Random(file_size).randbytes(file_size - 9)  # noqa: S311 - nothing secret
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="offer.pdf"\r\n'
            "Content-Type: application/pdf\r\n\r\n"
        )
        whole += head.encode() + data + b"\r\n"
    return whole + f"--{_BOUNDARY}--\r\n".encode()


CASES = {
    case.name: case
    for case in (
        Case(name="urlencoded", title="urlencoded fields", multipart=False),
        Case(name="fields", title="multipart, fields only"),
        Case(name="96kb", title="multipart with a file of 96 KB", file_size=96 * 1024, connections=16, rate=20.0,
             mails=500),
        Case(
            name="9mb", title="multipart with a file of 9 MB", file_size=9 * 1024 * 1024, connections=4, rate=1.0,
            grace=1.5, window=0.5, mails=20,
        ),
    )
}  # fmt: skip
