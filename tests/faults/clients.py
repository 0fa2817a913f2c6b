"""The first observer: clients that submit forms at a steady rate, whatever comes back, and note what they were told."""

import asyncio
import contextlib
import itertools
import json
import random
import time
from dataclasses import dataclass, field
from io import BytesIO

import aiohttp

from tests.faults.events import Notebook, Submitted
from tests.faults.mail_server import digest_of

#: Seconds after which a client gives up. Longer than any answer should take, so that late ones are seen as late.
PATIENCE = 20.0

#: Of a hundred submissions so many have a small file, and of a thousand so many have a large one.
SMALL_FILES, LARGE_FILES = 5, 4
SMALL, LARGE = 40_000, 1_500_000

_WORDS = ("parcel", "order", "invoice", "refund", "Straße", "naïve", "小包", "late", "broken", "thanks", "..", ".")


@dataclass(slots=True)
class Clients:
    """Clients of the form API at one address."""

    url: str
    notebook: Notebook
    per_second: float
    #: The share of those that go away in the middle of their upload.
    aborting: float = 0.0
    paused: bool = False
    accepted: dict[str, int] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _chance: random.Random = field(default_factory=lambda: random.Random(11))  # noqa: S311 - traffic is no secret
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Submit for as long as this task runs; late or lost answers do not hold up the next request."""
        connector = aiohttp.TCPConnector(limit=0, force_close=False)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            try:
                due = time.monotonic()
                while True:
                    due += self._chance.expovariate(self.per_second)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    if not self.paused:
                        self._begin(session)
            finally:
                if self._under_way:
                    await asyncio.wait(self._under_way)

    def _begin(self, session: aiohttp.ClientSession) -> None:
        number = next(self._numbers)
        aborts = self._chance.random() < self.aborting
        task = asyncio.get_running_loop().create_task(self._abort(number) if aborts else self._submit(session, number))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _submit(self, session: aiohttp.ClientSession, number: int) -> None:
        fields, files = self._letter(number)
        at, begun = time.time(), time.monotonic()
        said, message_id, instead = await self._told(session, fields, files)
        if said == 0 and message_id:
            self.accepted[message_id] = number
        self.notebook.write(
            Submitted(
                number=number, at=at, seconds=time.monotonic() - begun, said=said, id=message_id,
                digest=_digest(fields, files), instead=instead,
            )
        )  # fmt: skip

    async def _told(
        self, session: aiohttp.ClientSession, fields: dict[str, str], files: list[bytes]
    ) -> tuple[int | None, str | None, str | None]:
        try:
            async with session.post(self.url, data=_form(fields, files)) as answer:
                text = await answer.text()
            body = json.loads(text)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return None, None, repr(error)
        said = body.get("statusCode")
        return said, body.get("interactionId"), None if said in {0, 1} else f"{answer.status} {text[:200]}"

    def _letter(self, number: int) -> tuple[dict[str, str], list[bytes]]:
        words = " ".join(self._chance.choices(_WORDS, k=self._chance.randint(5, 200)))
        files = []
        if self._chance.randrange(100) < SMALL_FILES:
            files.append(b"%PDF-1.7\n" + self._chance.randbytes(SMALL))
        if self._chance.randrange(1000) < LARGE_FILES:
            files.append(b"%PDF-1.7\n" + self._chance.randbytes(LARGE))
        return {
            "firstName": "Jane", "lastName": "Doe", "fromAddress": "jane@customer.test",
            "subject": f"fault run {number}", "text": f"[[{number} {words}]]",
        }, files  # fmt: skip

    async def _abort(self, number: int) -> None:
        """Begin an upload, and go away in its middle: whatever is made of it must be whole, or nothing."""
        fields, files = self._letter(number)
        whole = b"".join(
            f'--cut\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        )
        host, _, port = self.url.split("/")[2].partition(":")
        head = (
            f"POST /{self.url.split('/', 3)[3]} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(whole) + 9}\r\n"
            "Content-Type: multipart/form-data; boundary=cut\r\n\r\n"
        ).encode()
        at = time.time()
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            # Sometimes all of it but the answer.
            whole += b"--cut--\r\n"
            sent = len(whole) if self._chance.random() < 0.3 else self._chance.randrange(len(whole))
            writer.write(head + whole[:sent])
            await writer.drain()
            await asyncio.sleep(self._chance.random() * 0.05)
            writer.transport.abort()
        self.notebook.write(
            Submitted(
                number=number, at=at, seconds=time.time() - at, said=None, id=None, digest=_digest(fields, files[:0]),
                aborted=True,
            )
        )  # fmt: skip


def _form(fields: dict[str, str], files: list[bytes]) -> aiohttp.FormData:
    form = aiohttp.FormData(fields)
    for turn, file in enumerate(files):
        form.add_field(f"file{turn}", BytesIO(file), filename=f"order-{turn}.pdf", content_type="application/pdf")
    return form


def _digest(fields: dict[str, str], files: list[bytes]) -> str:
    return digest_of(fields["text"][2:-2], files)
