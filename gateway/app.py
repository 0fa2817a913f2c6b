"""The gateway, put together: everything concrete is chosen here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from functools import partial

import msgspec
from aiohttp import hdrs, http_parser, web

from gateway.admin.console import Console
from gateway.admin.pages import open_console
from gateway.admission import Admission, ClientRates, Proxies, limited_as
from gateway.bundles import Bundles
from gateway.cloud import routes as cloud_routes
from gateway.cloud.access import Access
from gateway.cloud.calls import Overlooked, Platform
from gateway.disk import DiskFloor
from gateway.early import answered_early
from gateway.forms import answers, routes
from gateway.forms.problems import Code, Problem
from gateway.forms.routes import Counter, Refused
from gateway.intake import Intake
from gateway.links import Links
from gateway.memory import MemoryGuard
from gateway.outcomes import Outcomes
from gateway.ready import NO_PAGE, Answer, JsonAnswer
from gateway.scanner import Scanner
from mailroom.attachments import AttachmentStore
from mailroom.crowd import Crowd
from mailroom.health import health_answer, health_app
from mailroom.http_connection import PlainRequest
from mailroom.logs import get_logger
from mailroom.loops import start_loop
from mailroom.queue.port import Queue
from mailroom.serving import AROUND, CROWD, FAULT_ID, REFUSAL, SHORTCUT, new_fault_id
from mailroom.settings import Settings
from mailroom.store.port import Store
from mailroom.tally import Tally
from mailroom.tickets import TicketWriter
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch

log = get_logger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: aiohttp's own limit on bodies would end an upload before our own budgets say why; those count every byte.
NO_LIMIT_OF_AIOHTTP = 2**40


class SlowParser(Exception):
    """aiohttp runs without its C parser: slower, and not the one whose strictness was tested."""


class Gateway:
    """A running gateway: its application, and what it can be asked."""

    def __init__(
        self, settings: Settings, store: Store, queue: Queue, attachments: AttachmentStore, vault: Vault
    ) -> None:
        if not hasattr(http_parser, "HttpRequestParserC"):
            raise SlowParser("aiohttp's C parser is not installed; reinstall aiohttp from a binary wheel")
        self._settings, self._store, self._queue = settings, store, queue
        self._attachments, self._vault = attachments, vault
        self.watch = IntegrationWatch(store, vault)
        self.tickets = TicketWriter(queue, store, self.watch.now)
        self.tally = Tally(store, settings.services)
        self.intake = Intake(store, self.tickets, attachments, self.tally)
        self._stopping = False
        self._overlooked, self._refused = Overlooked(), Refused()
        self._memory = MemoryGuard()
        self._files_disk = DiskFloor([attachments.folder], settings.limits.bytes_in_flight)
        ours = [settings.data_dir] if settings.database_url.startswith("sqlite:") else []
        self._rows_disk = DiskFloor(ours, settings.limits.bytes_in_flight)
        self.admission = Admission(settings.limits, self._memory.short, self._files_disk.short, self._rows_disk.short)
        rates = ClientRates()
        scanner = Scanner(settings.scanner)
        self._proxies = proxies = Proxies(settings.limits.trusted_proxies)
        self.crowd = Crowd(
            settings.limits.connections,
            settings.limits.connections_per_client,
            lambda address: None if proxies.is_ours(address) else limited_as(address),
        )
        self._forms = routes.Forms(
            Counter(
                settings=settings,
                store=store,
                watch=self.watch,
                attachments=attachments,
                bundles=Bundles(attachments, self._files_disk.short),
                intake=self.intake,
                outcomes=Outcomes(store),
                admission=self.admission.forms,
                rates=rates,
                proxies=proxies,
                tally=self.tally,
                refused=self._refused,
                scanner=scanner,
            )
        )
        platform = Platform(
            settings=settings,
            store=store,
            queue=queue,
            vault=vault,
            access=Access(store),
            admission=self.admission.platform,
            rates=rates,
            proxies=proxies,
            watch=self.watch,
            attachments=attachments,
            tickets=self.tickets,
            links=Links(vault.derived("links")),
            overlooked=self._overlooked,
            tally=self.tally,
            scanner=scanner,
        )
        self.app = web.Application(client_max_size=NO_LIMIT_OF_AIOHTTP)
        self.app[AROUND] = self._answered
        self.app[REFUSAL] = answers.not_http
        self.app[CROWD] = self.crowd
        self.app[SHORTCUT] = self._shortcut
        self.app.on_response_prepare.append(self._last_answers)
        self.app.on_response_prepare.append(_told_to_browsers)
        routes.add_routes(self.app, self._forms)
        cloud_routes.add_routes(self.app, platform)
        self.app.router.add_get("/healthz", self._healthz)
        self.app.router.add_get("/readyz", self._readyz)

    def pages(
        self,
        unready: Callable[[], str | None] | None = None,
        figures: Callable[[], Mapping[str, float]] | None = None,
        *,
        mailbox: bool = False,
    ) -> tuple[web.Application, Console]:
        """The admin port: pages for people who are signed in, and health and figures of this process.

        `unready` and `figures` take the place of this gateway's own where more than it runs in the process; `mailbox`
        says that the caller adds the pages of the development mailbox.
        """
        app = health_app(unready or self.unready, figures or self.figures)
        console = open_console(
            app,
            settings=self._settings,
            store=self._store,
            queue=self._queue,
            vault=self._vault,
            watch=self.watch,
            attachments=self._attachments,
            proxies=self._proxies,
            mailbox=mailbox,
        )
        return app, console

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Gateway"]:
        """Accept while inside; on leaving, commit and ticket what was accepted."""
        self._queue.on_nudge(self.watch.nudge)
        tasks = [
            start_loop(name, work)
            for name, work in {
                "watch": self.watch.run,
                "tombstones": self.intake.pay_owed,
                "disk of files": self._files_disk.run,
                "disk of rows": self._rows_disk.run,
            }.items()
        ]
        async with self.tally.running():
            try:
                yield self
            finally:
                await self._stop(tasks)

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        self._stopping = True
        await self.intake.aclose()
        await self.tickets.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def stop_being_ready(self) -> None:
        """Tell whoever spreads the load to send nothing more here."""
        self._stopping = True

    def unready(self) -> str | None:
        """Why nothing can be accepted at the moment; None when it can. An absent broker alone is no reason."""
        if self._stopping:
            return "the gateway is stopping"
        if not self.watch.is_fresh:
            return "the database does not answer"
        if self.intake.owed:
            return "tombstones are owed to the database"
        return self.intake.idle() or self._rows_disk.short()

    def figures(self) -> dict[str, float]:
        """What it has done since its start, by name."""
        return {
            "mailroom_connections": self.crowd.here,
            "mailroom_connections_refused_total": self.crowd.turned_away,
            "mailroom_accepted_total": self.intake.accepted,
            "mailroom_contradicted_total": self.intake.contradicted,
            "mailroom_accept_statements_total": self.intake.line.groups,
            "mailroom_accept_waiting": self.intake.line.waiting,
            "mailroom_tombstones_owed": self.intake.owed,
            "mailroom_tickets_published_total": self.tickets.published,
            "mailroom_tickets_dropped_total": self.tickets.dropped,
            "mailroom_tickets_waiting": self.tickets.waiting,
            "mailroom_gate_overlooked_total": self._overlooked.number,
            "mailroom_mailboxes_refused_total": self._refused.mailboxes,
            "mailroom_broker_connected": float(self._queue.connected),
            "mailroom_requests_in_hand": self.admission.requests,
            "mailroom_requests_in_hand_most": self._settings.limits.requests_in_flight,
            "mailroom_bytes_in_hand": self.admission.bytes,
            "mailroom_bytes_in_hand_most": self._settings.limits.bytes_in_flight,
            "mailroom_turned_away_forms_total": self.admission.forms.turned_away,
            "mailroom_turned_away_platform_total": self.admission.platform.turned_away,
            "mailroom_memory_share": self._memory.share,
            "mailroom_disk_short": float(bool(self._files_disk.short() or self._rows_disk.short())),
            "mailroom_disk_free_bytes": min(self._files_disk.free, self._rows_disk.free),
        }

    async def _answered(self, handler: _Handler, request: web.Request) -> web.StreamResponse:
        """What is done about every request, whatever it is for."""
        if (service := routes.service_in(request)) is not None:
            handler = partial(self._forms.submit_to, service)
        elif cloud_routes.is_platform(request.path):
            handler = partial(cloud_routes.platform_answers, handler=handler)
        response = await always_json(request, handler)
        if self._stopping:
            response.force_close()
        return response if request.content.is_eof() else await answered_early(request, response)

    def _shortcut(self, request: PlainRequest) -> Coroutine[None, None, bytes] | None:
        """A form, unless its body is still coming: nearly all that comes, and not looked for among all the routes."""
        service = None if self._stopping else routes.service_in(request)
        return None if service is None else self._submitted(service, request)

    async def _submitted(self, service: str, request: PlainRequest) -> bytes:
        try:
            answer = await self._forms.submitted(service, request)
        except Exception as error:  # noqa: BLE001 - told below
            answer = _our_fault(request.raw_path, error)
        return answer.on_a_kept_connection()

    async def _last_answers(self, _: web.Request, response: web.StreamResponse) -> None:
        """Who keeps connections open shall open the next one elsewhere, before this process ends them (OPS-1)."""
        if self._stopping:
            response.headers[hdrs.CONNECTION] = "close"
            response.force_close()

    async def _healthz(self, _: web.Request) -> web.Response:
        return health_answer("alive", None)

    async def _readyz(self, _: web.Request) -> web.Response:
        return health_answer("ready", self.unready())


async def _told_to_browsers(_: web.Request, response: web.StreamResponse) -> None:
    """No answer of the APIs is a page, is kept on the way, or is shown within another page (SEC-9)."""
    for name, value in NO_PAGE.items():
        response.headers.setdefault(name, value)


@web.middleware
async def always_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every answer is JSON, whatever happens: clients throw, and wait for ever, on anything else."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        code = {404: Code.NOT_FOUND, 405: Code.MALFORMED}.get(error.status, Code.MALFORMED)
        advice = f"{request.method} {request.path} is not part of this API."
        response = _json(error.status, answers.refused([Problem(code, advice)]))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except ConnectionError:
        # The client went away while it was sending; nobody reads this.
        return _json(200, answers.again_later())
    except Exception as error:  # noqa: BLE001 - told below
        return JsonAnswer.of(_our_fault(request.path, error))


def _our_fault(path: str, error: Exception) -> Answer:
    """The body is what clients know, and has room for nothing else."""
    fault_id = new_fault_id()
    log.error("request failed by our own fault", path=path, fault_id=fault_id, exc_info=error)
    return Answer(200, msgspec.json.encode(answers.again_later()), {FAULT_ID: fault_id})


def _json(status: int, body: object) -> web.Response:
    return JsonAnswer(msgspec.json.encode(body), status)
