"""The Email API Version 2 over HTTP: submit a form, ask what became of it."""

import hmac
import http
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import hdrs, web

from gateway.admission import ClientRates, Entrance, Full, Proxies
from gateway.bundles import Bundles
from gateway.forms import answers, letter
from gateway.forms.body import BadForm, read_form
from gateway.forms.problems import Code, Problem
from gateway.forms.raw import RawForm
from gateway.forms.submission import Submission, check, too_big_for
from gateway.intake import Intake, NotAccepted
from gateway.outcomes import Outcomes
from gateway.ready import NO_HEADERS, Answer, JsonAnswer
from gateway.scanner import Scanner, Verdict
from mailroom.attachments import AttachmentStore
from mailroom.gate import Closed, gate
from mailroom.http_connection import AnyRequest, let_in
from mailroom.integration import Integration
from mailroom.kinds import KINDS
from mailroom.logs import get_logger
from mailroom.message import Content, Kind, Status, new_message_id
from mailroom.serving import expect
from mailroom.settings import BESIDE_FILES, EmailOptions, Settings
from mailroom.store import messages
from mailroom.store.content import encode_content
from mailroom.store.messages import NewMessage, Standing
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.tally import UNNAMED, Tally, What
from mailroom.watch import IntegrationWatch

log = get_logger(__name__)

#: Statuses that are final failures: the endpoint answers statusCode 1 for them.
FAILURES = frozenset({Status.FAILED, Status.EXPIRED})

#: Who is counted where it does not matter who comes.
_EVERYBODY = "everybody"

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Refused:
    """How often somebody asked for a mailbox that the service may not write to."""

    mailboxes: int = 0


@dataclass(frozen=True, slots=True)
class Counter:
    """What the form endpoint works with."""

    settings: Settings
    store: Store
    watch: IntegrationWatch
    attachments: AttachmentStore
    bundles: Bundles
    intake: Intake
    outcomes: Outcomes
    admission: Entrance
    rates: ClientRates
    proxies: Proxies
    tally: Tally
    refused: Refused
    scanner: Scanner


class Refusal(Exception):
    """The request ends here, with this answer."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def service_in(request: AnyRequest) -> str | None:
    """The service that a plain submission is for; None for all that has to be looked at more closely."""
    if request.method != "POST" or hdrs.EXPECT in request.headers:
        return None
    found = _PLAIN_PATH.fullmatch(request.raw_path)
    return found[1] if found else None


#: Nothing in it is encoded, so it is what the routes below would find.
_PLAIN_PATH = re.compile(r"/genesys/2/email/([A-Za-z0-9_-]+)")


def add_routes(app: web.Application, forms: "Forms") -> None:
    """`/genesys/2/email/{service}` and `…/{interactionId}`, with preflight; the bare path is the service `default`."""
    for path in ("/genesys/2/email", "/genesys/2/email/{service}"):
        app.router.add_post(path, forms.submit, expect_handler=expect)
        app.router.add_options(path, forms.preflight, expect_handler=expect)
    app.router.add_get("/genesys/2/email/{service}/{interaction}", forms.outcome, expect_handler=expect)
    app.router.add_options("/genesys/2/email/{service}/{interaction}", forms.preflight, expect_handler=expect)


class Forms:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._settings = counter.settings

    async def submit(self, request: web.Request) -> web.Response:
        """Take a submission in, or say everything that is wrong with it."""
        return await self.submit_to(_service_of(request), request)

    async def submit_to(self, service: str, request: web.Request) -> web.Response:
        """The same, where it is known to which service."""
        return JsonAnswer.of(await self.submitted(service, request))

    async def submitted(self, service: str, request: AnyRequest) -> Answer:
        """The same, however the answer is written."""
        options = self._settings.options_of(service)
        if options is None:
            return _answer(404, answers.unknown_service())
        try:
            status, body = await self._submit(request, service, options)
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
            self._count_refusal(refusal.status, service)
        except BadForm as bad:
            status, body = bad.status, answers.refused([bad.problem])
            self._count_refusal(bad.status, service)
        return _answer(status, body, _allowing(request, options))

    def _count_refusal(self, status: int, service: str) -> None:
        # What is answered 200 and was not taken in may come again.
        what = What.AGAIN if status == http.HTTPStatus.OK else What.REFUSED
        self._counter.tally.count(what, datetime.now(UTC), kind=Kind.FORM, service=service)

    async def _submit(self, request: AnyRequest, service: str, options: EmailOptions) -> tuple[int, dict[str, Any]]:
        """What to answer to a submission that was taken in. Raises Refusal, BadForm: then nothing was."""
        _check_key(request, options)
        # What says that it is larger than any form may be is refused for that; it is not worth trying again.
        length, most = request.content_length, options.max_size + BESIDE_FILES
        size = most if length is None else min(length, most)
        try:
            message = await self._taken_in(request, service, options, size)
        except Full:
            raise Refusal(200, answers.again_later()) from None
        if options.acknowledge == "delivered":
            return await self._when_delivered(message, options)
        return 200, answers.accepted(str(message.id))

    async def _taken_in(self, request: AnyRequest, service: str, options: EmailOptions, size: int) -> NewMessage:
        """The message, committed. Raises Full before anything of the body is read; Refusal, BadForm."""
        self._counter.admission.enter(size)
        try:
            self._check_rate(request, service, options)
            with let_in(request):
                form = await read_form(request, options, self._counter.settings.limits, self._counter.attachments)
            return await self._accept(form, service, options, request)
        finally:
            self._counter.admission.leave(size)

    async def _accept(self, form: RawForm, service: str, options: EmailOptions, request: AnyRequest) -> NewMessage:
        """The message, committed; its files are deleted again where it certainly is not. Raises Refusal."""
        files_can_go = True
        bundles: tuple[str, ...] = ()
        try:
            admitted = self._admitted(form, service, options, request)
            if form.files:
                await self._scan(form)
                laid_down = await self._counter.bundles.lay_down(admitted.submission.attachments)
                admitted.submission = replace(admitted.submission, attachments=laid_down)
            message = _message(admitted, options)
            files_can_go, bundles = False, message.bundles
            await self._counter.intake.accept(message)
        except NotAccepted as error:
            files_can_go = error.certain
            raise Refusal(200, answers.again_later()) from None
        finally:
            if files_can_go:
                await form.discard(self._counter.attachments)
                await self._counter.bundles.discard(bundles)
            elif bundles:
                self._counter.bundles.named(bundles)
        return message

    async def _scan(self, form: RawForm) -> None:
        """Have the files looked at, where somebody can; raises Refusal."""
        if not self._counter.scanner.is_there:
            return
        kept = self._counter.attachments
        files = [file.content if file.key is None else await kept.read(file.key) for file in form.files]
        match await self._counter.scanner.judge(content or b"" for content in files):
            case Verdict.HARMFUL:
                advice = "A file was refused: a scanner for viruses has found something in it."
                raise Refusal(400, answers.refused([Problem(Code.FILE_TYPE_NOT_ALLOWED, advice)]))
            case Verdict.UNSEEN:
                raise Refusal(200, answers.again_later())
            case Verdict.FINE:
                pass

    def _admitted(self, form: RawForm, service: str, options: EmailOptions, request: AnyRequest) -> "_Admitted":
        """A submission that nothing speaks against; raises Refusal."""
        integration = self._counter.watch.named(options.integration)
        submission = check(form, service, options, integration.default_mailbox if integration else None)
        if isinstance(submission, list):
            self._note_mailbox(submission, service, self._client_of(request))
            raise Refusal(400, answers.refused(submission))
        if integration is None or not self._counter.watch.is_fresh:
            # Nobody knows at the moment whether it could be sent.
            raise Refusal(200, answers.again_later())
        if not integration.from_address:
            log.error("form refused: its integration has no sender address", integration=integration.name)
            raise Refusal(200, answers.again_later())
        too_big = too_big_for(integration.ehlo_size, submission)
        if too_big is not None:
            raise Refusal(400, answers.refused([too_big]))
        self._check_mailbox_rate(submission, options)
        return self._pass_gate(submission, integration, options)

    def _check_mailbox_rate(self, submission: Submission, options: EmailOptions) -> None:
        if options.mailbox_rate is None:
            return
        mailbox = submission.mailbox.lower()
        if not self._counter.rates.allows(options.mailbox_rate, f"mailbox {mailbox}", _EVERYBODY):
            log.warning("mailbox has had its rate of forms", service=submission.service)
            raise Refusal(200, answers.again_later())

    def _note_mailbox(self, problems: list[Problem], service: str, client: str) -> None:
        """Have it known that somebody tried to send mail where nobody allowed it (SEC-3)."""
        if any(problem.code is Code.MAILBOX_INVALID for problem in problems):
            self._counter.refused.mailboxes += 1
            log.warning("mailbox refused", service=service, client=client)

    def _pass_gate(self, submission: Submission, integration: Integration, options: EmailOptions) -> "_Admitted":
        now = self._counter.watch.now()
        verdict = gate(
            Kind.FORM, integration.intended_state, integration.reported_state, integration.cause, now,
            self._settings.enforcement,
        )  # fmt: skip
        if isinstance(verdict, Closed) and options.when_inactive == "refuse":
            log.warning("form refused", service=submission.service, reason=verdict.reason)
            raise Refusal(200, answers.again_later())
        return _Admitted(submission, integration, now, Status.HELD if isinstance(verdict, Closed) else Status.QUEUED)

    def _check_rate(self, request: AnyRequest, service: str, options: EmailOptions) -> None:
        if options.rate_limit is None:
            return
        # Services that nobody named are counted as one: else a client would have another rate for each it thinks of.
        counted_as = service if service in self._settings.services else UNNAMED
        if not self._counter.rates.allows(options.rate_limit, counted_as, self._client_of(request)):
            raise Refusal(200, answers.again_later())

    def _client_of(self, request: AnyRequest) -> str:
        return self._counter.proxies.client(request.remote or "unknown", request.headers.getall("X-Forwarded-For", ()))

    async def _when_delivered(self, message: NewMessage, options: EmailOptions) -> tuple[int, dict[str, Any]]:
        """Answer 1 only for a final failure that was marked as answered; everything else is accepted and in progress."""
        status = await self._counter.outcomes.wait(message.id, options.wait_seconds)
        if status in FAILURES and await self._mark_answered(message.id):
            standing = await self._counter.store.read(messages.standing, message.id)
            return 400, answers.failed(status, standing.reason if standing else None)
        return 200, answers.accepted(str(message.id)) | {"status": str(status or Status.QUEUED)}

    async def _mark_answered(self, message_id: UUID) -> bool:
        try:
            return await self._counter.store.statement(messages.answered_one, message_id)
        except (StoreUnavailable, CommitUnknown, BadRow):
            return False

    async def outcome(self, request: web.Request) -> web.Response:
        """What became of a submission: its status and, when it failed, a class of reason; never addresses or words."""
        service = _service_of(request)
        options = self._settings.options_of(service)
        if options is None:
            return JsonAnswer.of(_answer(404, answers.unknown_service()))
        try:
            _check_key(request, options)
            self._check_rate(request, service, options)
            standing = await self._standing(service, request.match_info["interaction"])
            status, body = 200, answers.outcome(standing.status, standing.reason, str(standing.id))
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
        return JsonAnswer.of(_answer(status, body, _allowing(request, options)))

    async def _standing(self, service: str, interaction: str) -> Standing:
        unknown = Refusal(404, answers.refused([Problem(Code.NOT_FOUND, "This service has no such interaction.")]))
        try:
            message_id = UUID(interaction)
        except ValueError:
            raise unknown from None
        try:
            standing = await self._counter.store.read(messages.standing, message_id)
        except StoreUnavailable:
            raise Refusal(200, answers.again_later()) from None
        if standing is None or standing.service != service:
            raise unknown
        return standing

    async def preflight(self, request: web.Request) -> web.Response:
        """CORS preflight: only configured origins, methods and headers."""
        options = self._settings.options_of(_service_of(request))
        if options is None:
            return JsonAnswer.of(_answer(404, answers.unknown_service()))
        response = web.Response(status=204, headers=_allowing(request, options))
        if hdrs.ACCESS_CONTROL_ALLOW_ORIGIN in response.headers:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "POST, GET, OPTIONS"
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "apikey, ContactCenterId, Content-Type"
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"
        return response


# Nobody changes one but whoever made it, so it is not frozen: that takes three times as long.
@dataclass(slots=True)
class _Admitted:
    """A submission that may become a message, as things stood at a moment."""

    submission: Submission
    integration: Integration
    at: datetime
    status: Status


def _message(admitted: _Admitted, options: EmailOptions) -> NewMessage:
    """The message that the submission becomes."""
    submission, integration = admitted.submission, admitted.integration
    message_id = new_message_id(admitted.at)
    content = letter.compose(submission, integration.from_address, integration.from_name, options, message_id)
    files = content.attachments
    return NewMessage(
        id=message_id,
        kind=Kind.FORM,
        integration_id=integration.id,
        service=submission.service,
        tenant=submission.tenant,
        recipient=submission.mailbox,
        sender=submission.from_address,
        subject=submission.subject,
        size=_size_of(content),
        accepted_at=admitted.at,
        expires_at=admitted.at + KINDS[Kind.FORM].expires_after,
        status=admitted.status,
        body=encode_content(content),
        files=tuple([file.key for file in files if file.key is not None and file.at is None]) if files else (),
        bundles=tuple({file.key for file in files if file.key is not None and file.at is not None}) if files else (),
    )


def _service_of(request: web.Request) -> str:
    return request.match_info.get("service", "default")


def _check_key(request: AnyRequest, options: EmailOptions) -> None:
    if not options.api_keys:
        return
    # Bytes that are no UTF-8 come as surrogates.
    given = request.headers.get("apikey", "").encode("utf-8", "surrogateescape")
    # Every key is compared, so that the time taken does not tell which came close.
    if not sum(hmac.compare_digest(given, key.encode()) for key in options.api_keys):
        advice = "This service asks for an API key in the header apikey, and this is none of its keys."
        raise Refusal(401, answers.refused([Problem(Code.NOT_AUTHORISED, advice)]))


def _allowing(request: AnyRequest, options: EmailOptions) -> Mapping[str, str]:
    """What lets a page of a configured origin read the answer.

    Credentials are never allowed: no cookie means anything here.
    """
    if not options.allowed_origins:
        return NO_HEADERS
    origin = request.headers.get(hdrs.ORIGIN)
    if not origin or not ("*" in options.allowed_origins or origin in options.allowed_origins):
        return {hdrs.VARY: hdrs.ORIGIN}
    allowed = "*" if "*" in options.allowed_origins else origin
    return {hdrs.VARY: hdrs.ORIGIN, hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: allowed}


def _answer(status: int, body: dict[str, Any], headers: Mapping[str, str] = NO_HEADERS) -> Answer:
    return Answer(status, _encode(body), headers)


def _size_of(content: Content) -> int:
    return len(content.text) + sum(file.size for file in content.attachments)
