"""Queries about messages: accepted, claimed, settled, swept. Plain functions that take a Connection.

The four that every message passes (accept, claim, settle, tombstones) take a whole group. On PostgreSQL each is one
statement over arrays, so its text, and with it the prepared plan, is the same for every size of group.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import ARRAY

from mailroom import fingerprint
from mailroom.kinds import KINDS
from mailroom.message import DEAD_LETTERS, ENDED, Kind, Status
from mailroom.store import dead_letters
from mailroom.store.absent import insert_absent
from mailroom.store.direct import DirectStatement
from mailroom.store.schema import EPOCH, attempts, bundles, contents, files, live, messages, moment_of, since_1970

#: A message in hand of so many workers that died has one more chance, by itself: its neighbours do not die of it again.
CRASHES_ALLOWED = 2

#: Bytes of a content that a claim still brings along; larger ones are read when they are about to be sent.
CARRIED_BY_CLAIM = 256 * 1024


# Nobody changes one of the next four, but they are not frozen: to make a frozen one takes three times as long, thousands
# of times a second.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class NewMessage:
    """A message about to be accepted. `status` is QUEUED or HELD; `body` is its encoded content."""

    id: UUID
    kind: Kind
    integration_id: UUID
    recipient: str
    subject: str
    accepted_at: datetime
    expires_at: datetime
    body: bytes
    service: str | None = None
    tenant: str | None = None
    sender: str | None = None
    size: int = 0
    status: Status = Status.QUEUED
    #: Keys in the attachment store: of files that are its own, and of bundles that others have files in too.
    files: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Claimed:
    """A message this session has taken."""

    id: UUID
    kind: Kind
    integration_id: UUID
    #: The session it was claimed for. A worker whose session was declared dead goes on under another one.
    session: UUID
    claim: int
    attempts: int
    blamed: int
    possible_duplicate: bool
    accepted_at: datetime
    expires_at: datetime
    #: None when it is larger than CARRIED_BY_CLAIM.
    body: bytes | None


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Attempt:
    """One try, as it is recorded; also one that the gate did not let begin (`held`), which has no number of its own."""

    number: int
    started_at: datetime
    ended_at: datetime
    outcome: str
    blame: str | None = None
    command: str | None = None
    code: int | None = None
    reply: str | None = None
    #: The version of TLS it was said over; none where it was said in clear text, or nothing was.
    tls: str | None = None

    @property
    def took(self) -> int | None:
        """Milliseconds from its beginning to its end; none where nothing was tried."""
        if self.outcome == HELD:
            return None
        return max(0, (self.ended_at - self.started_at) // _MILLISECOND)


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Settlement:
    """What became of a claimed message. It is written only while the claim number is still the message's."""

    id: UUID
    claim: int
    status: Status
    at: datetime
    attempts: int
    blamed: int
    possible_duplicate: bool = False
    reason: str | None = None
    reply: str | None = None
    #: When a deferred message is due; held ones need none.
    wake_at: datetime | None = None
    session: UUID | None = None
    attempt: Attempt | None = None

    @property
    def tls(self) -> str | None:
        """Of its attempt, where there was one."""
        return self.attempt.tls if self.attempt else None

    @property
    def took(self) -> int | None:
        """Of its attempt, where there was one: milliseconds."""
        return self.attempt.took if self.attempt else None


#: The outcome of an attempt that the gate did not let begin.
HELD = "held"

_MILLISECOND = timedelta(milliseconds=1)

#: A held row sleeps until the sweep releases it; the end of time keeps it out of "what fell due".
NEVER = datetime(9999, 1, 1, tzinfo=EPOCH.tzinfo)


# --- accept -----------------------------------------------------------------------------------------------------------


def accept(tx: Connection, group: Sequence[NewMessage]) -> list[None]:
    """Commit a group of messages, all or none."""
    if tx.dialect.name == "postgresql":
        _ACCEPT.execute(tx, _accept_values(group))
    else:
        _accept_rows(tx, group)
    return [None] * len(group)


# One array of rows instead of one for each column: the driver looks at every element of an array before it writes it, and
# the server keeps a list for each. The bodies are one value beside it: what is given is kept until the last of the
# inserts has read it.
_ACCEPT = DirectStatement("""
    WITH given AS (
        SELECT id, kind, service, tenant, integration_id, recipient, sender, subject, size,
               to_timestamp(accepted_at) AS accepted_at, to_timestamp(expires_at) AS expires_at, status,
               body_begins, body_bytes
        FROM unnest(CAST(:rows AS accepted_message[]))
    ), said AS (
        INSERT INTO contents (message_id, body)
        SELECT id, substring(CAST(:bodies AS bytea) FROM body_begins FOR body_bytes) FROM given
    ), kept AS (
        INSERT INTO messages (id, kind, service, tenant, integration_id, recipient, sender, subject, size,
                              accepted_at, expires_at)
        SELECT id, kind, service, tenant, integration_id, recipient, sender, subject, size, accepted_at, expires_at
        FROM given
    ), filed AS (
        INSERT INTO files (key, message_id)
        SELECT * FROM unnest(CAST(:file_key AS text[]), CAST(:file_message AS uuid[]))
    ), bundled AS (
        INSERT INTO bundles (key, message_id)
        SELECT * FROM unnest(CAST(:bundle_key AS text[]), CAST(:bundle_message AS uuid[]))
    )
    INSERT INTO live (id, kind, integration_id, status, queued_at, expires_at, wake_at)
    SELECT id, kind, integration_id, status, accepted_at, expires_at,
           CASE WHEN status = 'held' THEN CAST(:never AS timestamptz) END
    FROM given
""")


def _accept_values(group: Sequence[NewMessage]) -> dict[str, Any]:
    rows, begins = [], 1
    for m in group:
        # In the order of the type `accepted_message` (migration 0006). The driver takes ten times as long over moments.
        rows.append((m.id, m.kind, m.service, m.tenant, m.integration_id, m.recipient, m.sender, m.subject, m.size,
                     m.accepted_at.timestamp(), m.expires_at.timestamp(), m.status, begins, len(m.body)))  # fmt: skip
        begins += len(m.body)
    return {
        "rows": rows,
        "bodies": b"".join([message.body for message in group]),
        "file_key": [key for message in group for key in message.files],
        "file_message": [message.id for message in group for _ in message.files],
        "bundle_key": [key for message in group for key in message.bundles],
        "bundle_message": [message.id for message in group for _ in message.bundles],
        "never": NEVER,
    }


#: Rows in one statement of SQLite's. For each step of a statement the driver lets the other threads of Python run, and waits
#: for its turn again.
_ROWS_AT_ONCE = 64


def _accept_rows(tx: Connection, group: Sequence[NewMessage]) -> None:
    kept: list[Any] = []
    said: list[Any] = []
    alive: list[Any] = []
    for m in group:
        id_, kind, integration_id = m.id.hex, m.kind.value, m.integration_id.hex
        accepted_at, expires_at, wake_at = since_1970(m.accepted_at), since_1970(m.expires_at), since_1970(_sleep_of(m))
        kept += (id_, kind, m.service, m.tenant, integration_id, m.recipient, m.sender, m.subject, m.size, accepted_at,
                 expires_at)  # fmt: skip
        said += (id_, m.body)
        alive += (id_, kind, integration_id, m.status.value, accepted_at, expires_at, wake_at)
    _insert(
        tx, "messages", "id, kind, service, tenant, integration_id, recipient, sender, subject, size, accepted_at, "
        "expires_at", kept,
    )  # fmt: skip
    _insert(tx, "contents", "message_id, body", said)
    _insert(tx, "live", "id, kind, integration_id, status, queued_at, expires_at, wake_at", alive)
    _insert(tx, "files", "key, message_id", [value for m in group for key in m.files for value in (key, m.id.hex)])
    _insert(tx, "bundles", "key, message_id", [value for m in group for key in m.bundles for value in (key, m.id.hex)])


def _insert(tx: Connection, table: str, columns: str, values: list[Any]) -> None:
    """Rows whose values stand one behind the other, given to the driver: SQLAlchemy takes longer over them than SQLite."""
    driver: Any = tx.connection.dbapi_connection
    width = columns.count(",") + 1
    for at in range(0, len(values), _ROWS_AT_ONCE * width):
        some = values[at : at + _ROWS_AT_ONCE * width]
        driver.execute(_insertion(table, columns, len(some) // width), some)


@lru_cache(maxsize=512)
def _insertion(table: str, columns: str, rows: int) -> str:
    row = f"({', '.join('?' * (columns.count(',') + 1))})"
    return f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - names of our own


def _sleep_of(message: NewMessage) -> datetime | None:
    return NEVER if message.status is Status.HELD else None


# --- tombstones -------------------------------------------------------------------------------------------------------


def bury(tx: Connection, group: Sequence[tuple[UUID, Kind]], at: datetime) -> dict[UUID, bool]:
    """Make sure that what is not committed yet never will be; tells of each id whether it *was* committed.

    A tombstone takes the id. Where a message has it already, the lost commit did happen; a commit still under way is
    waited for by the unique index itself.
    """
    insert_absent(
        tx,
        messages,
        [{"id": id_, "kind": kind, "accepted_at": at, "ended_at": at, "status": Status.REFUSED} for id_, kind in group],
    )
    ids = [id_ for id_, _ in group]
    found = tx.execute(sa.select(messages.c.id, messages.c.status).where(messages.c.id.in_(ids)))
    return {row.id: row.status != Status.REFUSED for row in found}


def revoke(tx: Connection, group: Sequence[tuple[UUID, Kind]], at: datetime) -> set[UUID]:
    """Make sure that what was answered 1 is not delivered: a tombstone, or the row taken back before anybody claims it.

    Returns those for which it is too late.
    """
    committed = [id_ for id_, was_committed in bury(tx, group, at).items() if was_committed]
    taken_back = set(
        tx.execute(
            sa.delete(live)
            .where(live.c.id.in_(committed), live.c.claim == 0, live.c.status.in_((Status.QUEUED, Status.HELD)))
            .returning(live.c.id)
        ).scalars()
    )
    refused = {"status": Status.REFUSED, "ended_at": at, "recipient": None, "sender": None, "subject": None}
    tx.execute(sa.update(messages).where(messages.c.id.in_(taken_back)).values(refused))
    tx.execute(sa.delete(contents).where(contents.c.message_id.in_(taken_back)))
    for named in (files, bundles):
        tx.execute(sa.delete(named).where(named.c.message_id.in_(taken_back)))
    return set(committed) - taken_back


# --- claim ------------------------------------------------------------------------------------------------------------


def claim(
    tx: Connection, ids: Sequence[UUID], session: UUID, *, doubtful: Sequence[UUID] = (), suspect: UUID | None = None
) -> dict[UUID, Claimed]:
    """Take for this session what is queued of these, each with its claim number raised; the rest is not ours.

    `doubtful` ids are those of an earlier claim of this session whose answer was lost: where it was committed, the
    message is taken once more. What has only one chance left after workers died with it is taken as `suspect` only.
    """
    if tx.dialect.name == "postgresql":
        given = {"ids": list(ids), "session": session, "doubtful": list(doubtful), "carried": CARRIED_BY_CLAIM}
        rows = _CLAIM.execute(tx, given | {"suspect": suspect})
        return {row["id"]: _claimed(row, session) for row in rows}
    return _claim_sqlite(tx, ids, session, doubtful, suspect)


def suspects(tx: Connection, ids: Collection[UUID]) -> list[UUID]:
    """Which of these wait to be claimed by themselves, because so many workers died with them in hand."""
    waiting = sa.select(live.c.id).where(
        live.c.id.in_(ids), live.c.crashes >= CRASHES_ALLOWED, live.c.status == Status.QUEUED
    )
    return list(tx.execute(waiting.order_by(live.c.id)).scalars())


_CLAIM_COLUMNS = """
    l.id, l.kind, l.integration_id, l.claim, l.attempts, l.blamed, l.possible_duplicate, l.expires_at, m.accepted_at,
    CASE WHEN octet_length(c.body) <= :carried THEN c.body END AS body
"""

#: A kind that only a newer Mailroom knows is not ours to take: its own workers will, during a rolling update (OPS-3).
_KNOWN = f"kind IN ({', '.join(repr(str(kind)) for kind in Kind)})"

# S608: the only texts put in are the lists above and a number.
_CLAIM = DirectStatement(f"""
    UPDATE live AS l SET status = 'sending', session = :session, claim = l.claim + 1
    FROM messages AS m, contents AS c
    WHERE l.id = ANY(CAST(:ids AS uuid[]))
      AND l.{_KNOWN}
      AND (l.status = 'queued'
           OR l.status = 'sending' AND l.session = :session AND l.id = ANY(CAST(:doubtful AS uuid[])))
      AND (l.crashes < {CRASHES_ALLOWED} OR l.id = CAST(:suspect AS uuid))
      AND m.id = l.id AND c.message_id = l.id
    RETURNING {_CLAIM_COLUMNS}
""")  # noqa: S608

#: The same on SQLite, given to the driver as they are (see _KEEP).
_TAKE = f"""
    UPDATE live SET status = 'sending', session = :session, claim = claim + 1
    WHERE id IN (SELECT value FROM json_each(:ids)) AND {_KNOWN}
      AND (status = 'queued'
           OR status = 'sending' AND session = :session AND id IN (SELECT value FROM json_each(:doubtful)))
      AND (crashes < {CRASHES_ALLOWED} OR id = :suspect)
    RETURNING id
"""  # noqa: S608 - as above

_READ_TAKEN = f"""
    SELECT {_CLAIM_COLUMNS.replace("octet_length", "length")}
    FROM live AS l JOIN messages AS m ON m.id = l.id JOIN contents AS c ON c.message_id = l.id
    WHERE l.id IN (SELECT value FROM json_each(:ids))
"""  # noqa: S608 - as above


def _claim_sqlite(
    tx: Connection, ids: Sequence[UUID], session: UUID, doubtful: Sequence[UUID], suspect: UUID | None
) -> dict[UUID, Claimed]:
    given = {"ids": _hexes(ids), "session": session.hex, "doubtful": _hexes(doubtful)}
    given["suspect"] = suspect.hex if suspect else ""
    mine = [id_ for (id_,) in tx.exec_driver_sql(_TAKE, given)]
    if not mine:
        return {}
    asked = {id_.hex: id_ for id_ in ids}
    rows = tx.exec_driver_sql(_READ_TAKEN, {"ids": json.dumps(mine), "carried": CARRIED_BY_CLAIM})
    return {asked[row[0]]: _claimed(_row_of_sqlite(row, asked[row[0]]), session) for row in rows}


def _row_of_sqlite(row: Any, message_id: UUID) -> dict[str, Any]:
    """The columns of a claim by their names, as PostgreSQL has them."""
    _, kind, through, number, tries, blamed, possible_duplicate, expires_at, accepted_at, body = row
    return {
        "id": message_id, "kind": kind, "integration_id": _integration(through), "claim": number, "attempts": tries,
        "blamed": blamed, "possible_duplicate": possible_duplicate, "expires_at": moment_of(expires_at),
        "accepted_at": moment_of(accepted_at), "body": body,
    }  # fmt: skip


@lru_cache(maxsize=1024)
def _integration(hexadecimal: str) -> UUID:
    """Read once for all messages that leave through it."""
    return UUID(hexadecimal)


def _hexes(ids: Sequence[UUID]) -> str:
    return json.dumps([id_.hex for id_ in ids])


def _claimed(row: Mapping[Any, Any], session: UUID) -> Claimed:
    return Claimed(
        id=row["id"],
        kind=Kind(row["kind"]),
        integration_id=row["integration_id"],
        session=session,
        claim=row["claim"],
        attempts=row["attempts"],
        blamed=row["blamed"],
        possible_duplicate=bool(row["possible_duplicate"]),
        accepted_at=row["accepted_at"],
        expires_at=row["expires_at"],
        body=row["body"],
    )


def hand_back(tx: Connection, ids: Collection[UUID], session: UUID, *, at: datetime) -> None:
    """Queue what this session has claimed and does not work on: an answer to its claim never came."""
    tx.execute(
        sa.update(live)
        .where(live.c.id.in_(ids), live.c.session == session, live.c.status == Status.SENDING)
        .values(status=Status.QUEUED, session=None, queued_at=at)
    )


def body_of(tx: Connection, message_id: UUID) -> bytes:
    """The encoded content of one message."""
    body: bytes = tx.execute(sa.select(contents.c.body).where(contents.c.message_id == message_id)).scalar_one()
    return body


# --- settle -----------------------------------------------------------------------------------------------------------


def settle(tx: Connection, group: Sequence[Settlement]) -> list[bool]:
    """Record what became of a group; tells of each whether its claim still stood.

    A late `sent` wins as long as nobody claimed the message anew, even when its session was declared dead meanwhile
    and the message became a dead letter for it.
    """
    if tx.dialect.name == "postgresql":
        # What sent everything at once, as nearly all groups did, pays for nothing else.
        stood = _settle_sent(tx, group) if all(map(_stands_in_messages, group)) else set()
        if len(stood) < len(group):
            stood |= _settle_any(tx, [s for s in group if s.id not in stood])
    else:
        stood = _settle_sqlite(tx, group)
    _record_overtaken(tx, [s for s in group if s.id not in stood and _stands_in_messages(s)])
    return [s.id in stood for s in group]


def _settle_sent(tx: Connection, group: Sequence[Settlement]) -> set[UUID]:
    """End what was sent at the first try and is still in hand; which of these were."""
    arrays: dict[str, Any] = {name: [getattr(s, name) for s in group] for name in _SENT_COLUMNS}
    return {row["id"] for row in _SETTLE_SENT.execute(tx, arrays)}


def _settle_any(tx: Connection, group: Sequence[Settlement]) -> set[UUID]:
    """Record whatever became of each; whose claim still stood."""
    dead = [s for s in group if s.status in DEAD_LETTERS]
    # As above: a group without dead letters does not pay for them.
    told = (
        _SETTLE_DEAD.execute(tx, _settle_arrays(group) | _dead_arrays(dead))
        if dead
        else _SETTLE.execute(tx, _settle_arrays(group))
    )
    return {row["id"] for row in told}


_SENT_COLUMNS = ("id", "claim", "at", "possible_duplicate", "reason", "reply", "tls", "took")

_SETTLE_SENT = DirectStatement("""
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:claim AS int[]), CAST(:at AS timestamptz[]), CAST(:possible_duplicate AS bool[]),
            CAST(:reason AS text[]), CAST(:reply AS text[]), CAST(:tls AS text[]), CAST(:took AS int[])
        ) AS g (id, claim, at, possible_duplicate, reason, reply, tls, took)
    ), ended AS (
        DELETE FROM live AS l USING given AS g WHERE l.id = g.id AND l.claim = g.claim
        RETURNING g.*
    )
    UPDATE messages AS m SET status = 'sent', ended_at = e.at, reason = e.reason, reply = e.reply, attempts = 1,
           claims = e.claim, possible_duplicate = e.possible_duplicate, tls = e.tls, took = e.took
    FROM ended AS e WHERE m.id = e.id
    RETURNING m.id
""")

_SETTLED = """
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:id AS uuid[]), CAST(:claim AS int[]), CAST(:status AS text[]), CAST(:final AS bool[]),
            CAST(:at AS timestamptz[]), CAST(:attempts AS smallint[]), CAST(:blamed AS smallint[]),
            CAST(:possible_duplicate AS bool[]), CAST(:reason AS text[]), CAST(:reply AS text[]),
            CAST(:wake_at AS timestamptz[]), CAST(:tls AS text[]), CAST(:took AS int[])
        ) AS g (id, claim, status, final, at, attempts, blamed, possible_duplicate, reason, reply, wake_at, tls, took)
    ), ended AS (
        DELETE FROM live AS l USING given AS g
        WHERE l.id = g.id AND l.claim = g.claim AND g.final AND (l.status = 'sending' OR g.status = 'sent')
        RETURNING l.id
    ), told AS (
        UPDATE messages AS m SET status = g.status, ended_at = g.at, reason = g.reason, reply = g.reply,
               attempts = g.attempts, claims = g.claim, possible_duplicate = g.possible_duplicate, tls = g.tls,
               took = g.took
        FROM given AS g LEFT JOIN ended AS e ON e.id = g.id
        WHERE m.id = g.id AND g.final
          AND (e.id IS NOT NULL
               OR g.status = 'sent' AND m.claims = g.claim AND m.status IN ('uncertain', 'failed', 'expired'))
        RETURNING m.id, m.integration_id, e.id IS NULL AS overruled
    ), revived AS (
        -- An array, so that no row is looked at when nothing was overruled: as a join it may read all dead letters.
        DELETE FROM dead_letters WHERE message_id = ANY(ARRAY(SELECT id FROM told WHERE overruled))
    ), kept AS (
        UPDATE live AS l SET status = g.status, session = NULL, wake_at = g.wake_at, attempts = g.attempts,
               blamed = g.blamed, possible_duplicate = g.possible_duplicate, queued_at = g.at
        FROM given AS g
        WHERE l.id = g.id AND l.claim = g.claim AND NOT g.final AND l.status = 'sending'
        RETURNING l.id
    ), tried AS (
        INSERT INTO attempts (message_id, claim, number, started_at, ended_at, session, outcome, blame, command, code,
                              reply, tls)
        SELECT * FROM unnest(
            CAST(:t_id AS uuid[]), CAST(:t_claim AS int[]), CAST(:t_number AS smallint[]),
            CAST(:t_started_at AS timestamptz[]), CAST(:t_ended_at AS timestamptz[]), CAST(:t_session AS uuid[]),
            CAST(:t_outcome AS text[]), CAST(:t_blame AS text[]), CAST(:t_command AS text[]),
            CAST(:t_code AS smallint[]), CAST(:t_reply AS text[]), CAST(:t_tls AS text[])
        )
        ON CONFLICT DO NOTHING
    )
"""

#: What tells the caller whose claim still stood.
_STOOD = "SELECT id FROM told UNION ALL SELECT id FROM kept"

#: There is a row already only when a process of the version before revived the message: it knows no such table.
_BURIED = """
    , buried AS (
        INSERT INTO dead_letters (message_id, integration_id, ended_at, reason, command, code, said, fingerprint)
        SELECT told.id, told.integration_id, d.at, d.reason, d.command, d.code, d.said, d.fingerprint
        FROM told JOIN unnest(
            CAST(:d_id AS uuid[]), CAST(:d_at AS timestamptz[]), CAST(:d_reason AS text[]), CAST(:d_command AS text[]),
            CAST(:d_code AS smallint[]), CAST(:d_said AS text[]), CAST(:d_fingerprint AS text[])
        ) AS d (id, at, reason, command, code, said, fingerprint) ON d.id = told.id
        ON CONFLICT (message_id) DO UPDATE SET integration_id = excluded.integration_id, ended_at = excluded.ended_at,
            reason = excluded.reason, command = excluded.command, code = excluded.code, said = excluded.said,
            fingerprint = excluded.fingerprint, dismissed_at = NULL, dismissed_by = NULL, dismissed_why = NULL
    )
"""

_SETTLE = DirectStatement(f"{_SETTLED} {_STOOD}")
_SETTLE_DEAD = DirectStatement(f"{_SETTLED} {_BURIED} {_STOOD}")

_ATTEMPT_COLUMNS = ("number", "started_at", "ended_at", "outcome", "blame", "command", "code", "reply", "tls")


def _dead_arrays(group: Sequence[Settlement]) -> dict[str, Any]:
    causes = [_cause_of(s) for s in group]
    arrays: dict[str, Any] = {"d_id": [s.id for s in group], "d_at": [s.at for s in group]}
    for name in ("reason", "command", "code", "said", "fingerprint"):
        arrays[f"d_{name}"] = [getattr(cause, name) for cause in causes]
    return arrays


def _cause_of(s: Settlement) -> fingerprint.Cause:
    return fingerprint.cause_of(s.reason or s.status, s.reply)


def _settle_arrays(group: Sequence[Settlement]) -> dict[str, Any]:
    columns = ("id", "claim", "status", "at", "attempts", "blamed", "possible_duplicate", "reason", "reply",
               "tls", "took")  # fmt: skip
    arrays: dict[str, Any] = {name: [getattr(s, name) for s in group] for name in columns}
    arrays["final"] = [s.status in ENDED for s in group]
    arrays["wake_at"] = [_wake_of(s) for s in group]
    tried = [(s, s.attempt) for s in group if s.attempt is not None and not _stands_in_messages(s)]
    arrays["t_id"] = [s.id for s, _ in tried]
    arrays["t_claim"] = [s.claim for s, _ in tried]
    arrays["t_session"] = [s.session for s, _ in tried]
    for name in _ATTEMPT_COLUMNS:
        arrays[f"t_{name}"] = [getattr(attempt, name) for _, attempt in tried]
    return arrays


#: Built once: making them anew for each message takes as long as SQLite does.
_END = sa.update(messages).where(messages.c.id == sa.bindparam("ended_id"))
_OVERRULE = _END.where(messages.c.claims == sa.bindparam("ended_claim"), messages.c.status.in_(DEAD_LETTERS))


# What was sent under a claim that is still the message's, given to the driver as it is (see _KEEP).
_LEAVE = """
    DELETE FROM live
    WHERE (id, claim) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))
    RETURNING id, claim
"""
_END_SENT = """
    UPDATE messages SET status = 'sent', ended_at = ?, reason = ?, reply = ?, attempts = ?, claims = ?,
           possible_duplicate = ?, tls = ?, took = ?
    WHERE id = ?
"""


def _settle_sqlite(tx: Connection, group: Sequence[Settlement]) -> set[UUID]:
    """Those that stood. What was sent under a claim that is still the message's, as nearly all are, goes together."""
    together = _settle_sent_rows(tx, [s for s in group if s.status is Status.SENT])
    return together | {s.id for s in group if s.id not in together and _settle_row(tx, s)}


def _settle_sent_rows(tx: Connection, sent: Sequence[Settlement]) -> set[UUID]:
    if not sent:
        return set()
    claims = json.dumps([(s.id.hex, s.claim) for s in sent])
    left = {(id_, number) for id_, number in tx.exec_driver_sql(_LEAVE, (claims,))}
    ended = [s for s in sent if (s.id.hex, s.claim) in left]
    if ended:
        tx.exec_driver_sql(_END_SENT, [_end_of_sqlite(s) for s in ended])
        _record(tx, [s for s in ended if not _stands_in_messages(s)])
    return {s.id for s in ended}


def _end_of_sqlite(s: Settlement) -> tuple[Any, ...]:
    return (since_1970(s.at), s.reason, s.reply, s.attempts, s.claim, s.possible_duplicate, s.tls, s.took, s.id.hex)


def _settle_row(tx: Connection, s: Settlement) -> bool:
    mine = sa.and_(live.c.id == s.id, live.c.claim == s.claim)
    if s.status is not Status.SENT:
        mine = sa.and_(mine, live.c.status == Status.SENDING)
    if s.status in ENDED:
        overrules = tx.execute(sa.delete(live).where(mine)).rowcount != 1
        stood = _stood_as(tx, s, _OVERRULE if overrules else _END)
        if stood and overrules:
            dead_letters.remove(tx, [s.id])
        elif stood and s.status in DEAD_LETTERS:
            dead_letters.enter(tx, s.id, _cause_of(s), s.at)
    else:
        changed = {"status": s.status, "session": None, "wake_at": _wake_of(s), "attempts": s.attempts,
                   "blamed": s.blamed, "possible_duplicate": s.possible_duplicate, "queued_at": s.at}  # fmt: skip
        stood = tx.execute(sa.update(live).where(mine).values(changed)).rowcount == 1
    if not _stands_in_messages(s):
        _record(tx, [s])
    return stood


def _stood_as(tx: Connection, s: Settlement, ending: sa.Update) -> bool:
    """Whether the message ended so; only a success may overrule an end that there is already."""
    if ending is _OVERRULE and s.status is not Status.SENT:
        return False
    which = {"ended_id": s.id} | ({"ended_claim": s.claim} if ending is _OVERRULE else {})
    return tx.execute(ending, which | _ending(s)).rowcount == 1


def _record_overtaken(tx: Connection, group: Sequence[Settlement]) -> None:
    """Keep the try of a success that was overtaken by another claim; one that is only told twice stands already."""
    if not group:
        return
    rows = tx.execute(
        sa.select(messages.c.id, messages.c.claims).where(
            messages.c.id.in_([s.id for s in group]), messages.c.status == Status.SENT
        )
    )
    standing = {(row.id, row.claims) for row in rows}
    _record(tx, [s for s in group if (s.id, s.claim) not in standing])


def _record(tx: Connection, group: Sequence[Settlement]) -> None:
    insert_absent(
        tx,
        attempts,
        [
            {"message_id": s.id, "claim": s.claim, "session": s.session}
            | {name: getattr(s.attempt, name) for name in _ATTEMPT_COLUMNS}
            for s in group
            if s.attempt is not None
        ],
    )


def _ending(s: Settlement) -> dict[str, Any]:
    return {
        "status": s.status, "ended_at": s.at, "reason": s.reason, "reply": s.reply, "attempts": s.attempts,
        "claims": s.claim, "possible_duplicate": s.possible_duplicate, "tls": s.tls, "took": s.took,
    }  # fmt: skip


def _wake_of(s: Settlement) -> datetime | None:
    return NEVER if s.status is Status.HELD else s.wake_at


def _stands_in_messages(s: Settlement) -> bool:
    """A first-try success has no attempt row: its one reply is in `messages`."""
    return s.status is Status.SENT and s.attempts == 1


# --- what people and clients ask --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one message stands."""

    id: UUID
    kind: Kind
    service: str | None
    tenant: str | None
    integration_id: UUID | None
    recipient: str | None
    sender: str | None
    subject: str | None
    size: int
    accepted_at: datetime
    status: Status
    due: datetime | None
    ended_at: datetime | None
    reason: str | None
    reply: str | None
    #: Of the last attempt that it ended with: the version of TLS, and how many milliseconds it took.
    tls: str | None
    took: int | None
    attempts: int
    possible_duplicate: bool
    #: Its client was told that it failed.
    answered: bool


_STANDING = sa.select(
    messages.c.id, messages.c.kind, messages.c.service, messages.c.tenant, messages.c.integration_id, messages.c.recipient,
    messages.c.sender, messages.c.subject, messages.c.size, messages.c.accepted_at, messages.c.ended_at,
    messages.c.reason, messages.c.reply, messages.c.tls, messages.c.took, messages.c.answered,
    sa.func.coalesce(live.c.status, messages.c.status).label("status"),
    live.c.wake_at,
    sa.func.coalesce(live.c.attempts, messages.c.attempts).label("attempts"),
    sa.func.coalesce(live.c.possible_duplicate, messages.c.possible_duplicate).label("possible_duplicate"),
).select_from(messages.outerjoin(live, live.c.id == messages.c.id))  # fmt: skip


def standing(tx: Connection, message_id: UUID) -> Standing | None:
    """Where a message stands; None when there is none, or only its tombstone."""
    row = tx.execute(_STANDING.where(messages.c.id == message_id)).one_or_none()
    if row is None or row.status == Status.REFUSED:
        return None
    return _standing(row)


def standings_of(tx: Connection, ids: Sequence[UUID]) -> list[Standing]:
    """Where these messages stand, the newest first; tombstones and what does not exist are left out."""
    if not ids:
        return []
    if tx.dialect.name == "postgresql":
        these = messages.c.id == sa.any_(sa.cast(sa.literal(list(ids), ARRAY(sa.Uuid)), ARRAY(sa.Uuid)))
    else:
        these = messages.c.id.in_(ids)
    rows = tx.execute(_STANDING.where(these).order_by(messages.c.id.desc()))
    return [_standing(row) for row in rows if row.status != Status.REFUSED]


def _standing(row: Any) -> Standing:
    return Standing(
        id=row.id,
        kind=Kind(row.kind),
        service=row.service,
        tenant=row.tenant,
        integration_id=row.integration_id,
        recipient=row.recipient,
        sender=row.sender,
        subject=row.subject,
        size=row.size,
        accepted_at=row.accepted_at,
        status=Status(row.status),
        due=None if row.wake_at == NEVER else row.wake_at,
        ended_at=row.ended_at,
        reason=row.reason,
        reply=row.reply,
        tls=row.tls,
        took=row.took,
        attempts=row.attempts,
        possible_duplicate=bool(row.possible_duplicate),
        answered=bool(row.answered),
    )


def attempts_of(tx: Connection, message_id: UUID) -> list[Attempt]:
    """Every recorded try of a message, oldest first (a first-try success has none: see `Standing.reply`)."""
    rows = tx.execute(sa.select(attempts).where(attempts.c.message_id == message_id).order_by(attempts.c.claim))
    return [Attempt(**{name: getattr(row, name) for name in _ATTEMPT_COLUMNS}) for row in rows]


def statuses(tx: Connection, ids: Sequence[UUID]) -> dict[UUID, Status]:
    """The status of each of these that exists."""
    rows = tx.execute(_STANDING.where(messages.c.id.in_(ids)))
    return {row.id: Status(row.status) for row in rows}


def answered_one(tx: Connection, message_id: UUID) -> bool:
    """Mark a finally failed message as answered 1: it may be copied, never re-driven. False unless it has failed."""
    marked = tx.execute(
        sa.update(messages)
        .where(messages.c.id == message_id, messages.c.status.in_((Status.FAILED, Status.EXPIRED)))
        .values(answered=1)
    )
    return marked.rowcount == 1


class NotADeadLetter(Exception):
    """Only a dead letter whose client was not told that it failed can be re-driven."""


@dataclass(frozen=True, slots=True)
class Revived:
    """A dead letter that is queued again."""

    id: UUID
    kind: Kind
    integration_id: UUID


def redrive_all(tx: Connection, ids: Sequence[UUID], *, at: datetime) -> list[Revived]:
    """Give fresh attempts, and the time their kind is entitled to, to all of these that can be re-driven."""
    moved = tx.execute(
        sa.update(messages)
        .where(messages.c.id.in_(ids), messages.c.status.in_(DEAD_LETTERS), messages.c.answered == 0)
        .values(status=None, ended_at=None, reason=None)
        .returning(
            messages.c.id, messages.c.kind, messages.c.integration_id, messages.c.claims, messages.c.possible_duplicate
        )
    ).all()
    if not moved:
        return []
    tx.execute(
        sa.insert(live),
        [
            {
                "id": one.id, "kind": one.kind, "integration_id": one.integration_id, "status": Status.QUEUED,
                # Claim numbers go on, so that a late result of the old life cannot settle the new one.
                "claim": one.claims + 1,
                "queued_at": at, "expires_at": at + KINDS[Kind(one.kind)].expires_after,
                "possible_duplicate": one.possible_duplicate,
            }
            for one in moved
        ],
    )  # fmt: skip
    dead_letters.remove(tx, [one.id for one in moved])
    return sorted((Revived(one.id, Kind(one.kind), one.integration_id) for one in moved), key=lambda one: one.id)
