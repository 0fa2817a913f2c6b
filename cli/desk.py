"""The desk of `mailroom up`: a unix socket in the data folder, over which commands ask the process that has the database."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, UnixConnector, web

from mailroom.operating.operations import OPERATIONS, REFUSALS, perform
from mailroom.operating.operator import Operator
from mailroom.serving import AddressTaken

SOCKET = "mailroom.sock"

#: A unix socket's path has room for so many bytes (sockaddr_un of unix(7); fewer on other systems).
LONGEST_PATH = 100


class NobodyThere(Exception):
    """No process answers at the socket."""


class Refused(Exception):
    """The process that was asked said no, and why."""


class _Question(msgspec.Struct):
    who: str
    args: dict[str, Any]


@contextlib.asynccontextmanager
async def open_desk(folder: Path, operator_for: Callable[[str], Operator]) -> AsyncIterator[None]:
    """Answer commands while inside. Only the user who runs this process can reach the socket."""

    async def answer(request: web.Request) -> web.Response:
        operation = request.match_info["operation"]
        if operation not in OPERATIONS:
            return _json(404, {"error": f"this Mailroom does not know {operation}; is it another version?"})
        question = msgspec.json.decode(await request.read(), type=_Question)
        try:
            return _json(200, {"result": await perform(operator_for(question.who), operation, question.args)})
        except REFUSALS as error:
            return _json(409, {"error": str(error)})

    app = web.Application()
    app.router.add_post("/{operation}", answer)
    # An operator who waits for a live test goes away when this process does.
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await _bind(runner, folder)
        yield
    finally:
        await runner.cleanup()
        (folder / SOCKET).unlink(missing_ok=True)


async def _bind(runner: web.AppRunner, folder: Path) -> None:
    # Whoever left it there is gone: the database's lock is ours.
    (folder / SOCKET).unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, _address(folder)).start()
    except OSError as error:
        raise AddressTaken(f"cannot listen at {folder / SOCKET}: {error.strerror or error}") from error
    finally:
        os.umask(before)


async def ask(folder: Path, operation: str, args: dict[str, Any], who: str) -> Any:
    """What the process that has this data folder answers; raises NobodyThere, Refused."""
    try:
        body = msgspec.json.encode({"who": who, "args": args})
    except UnicodeEncodeError:
        # From None: what was typed may be a password.
        raise Refused("what was typed is not text in this terminal's encoding; write it in UTF-8") from None
    try:
        async with (
            ClientSession(connector=UnixConnector(_address(folder)), timeout=ClientTimeout(total=120)) as session,
            session.post(f"http://mailroom/{operation}", data=body) as response,
        ):
            answer = msgspec.json.decode(await response.read())
    except (ClientConnectorError, FileNotFoundError) as error:
        raise NobodyThere(f"nobody answers at {folder / SOCKET}") from error
    except (ClientError, TimeoutError, msgspec.DecodeError) as error:
        raise Refused(f"`mailroom up` did not answer at {folder / SOCKET}: {error or type(error).__name__}") from error
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["result"]


def _address(folder: Path) -> str:
    """The shorter of its two paths."""
    path = min(str((folder / SOCKET).absolute()), os.path.relpath(folder / SOCKET), key=len)
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise AddressTaken(f"the path {path} is too long for a unix socket; choose a shorter MAILROOM_DATA_DIR")
    return path


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
