"""The tables. What is written at accept and at the end is apart from what changes on the way (docs/architecture.md)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

metadata = sa.MetaData()


def since_1970(moment: datetime | None) -> int | None:
    """A moment as SQLite keeps it: whole microseconds since 1970."""
    return None if moment is None else (moment - EPOCH) // _MICROSECOND


def moment_of(microseconds: int | None) -> datetime | None:
    """The moment that SQLite keeps as so many microseconds since 1970."""
    return None if microseconds is None else EPOCH + timedelta(microseconds=microseconds)


class Instant(sa.TypeDecorator[datetime]):
    """A moment in UTC: timestamptz on PostgreSQL, whole microseconds since 1970 on SQLite."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The column's type on this database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(sa.BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """What the driver is given."""
        if value is None or dialect.name == "postgresql":
            return value
        return since_1970(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """What we are given back."""
        return value if isinstance(value, datetime) else moment_of(value)


class Numbers(sa.TypeDecorator[list[int]]):
    """A list of 32 bit integers: an array on PostgreSQL; SQLite, which searches without, has a text in its place."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The column's type on this database."""
        return dialect.type_descriptor(ARRAY(sa.Integer()) if dialect.name == "postgresql" else sa.Text())


#: One row a message, written at accept and at its end; carries what is searched.
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("service", sa.Text),
    sa.Column("tenant", sa.Text),
    sa.Column("integration_id", sa.Uuid),
    sa.Column("recipient", sa.Text),
    sa.Column("sender", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("accepted_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    # What follows is written at the end (a tombstone begins with status 'refused').
    sa.Column("status", sa.Text),
    sa.Column("ended_at", Instant),
    sa.Column("reason", sa.Text),
    sa.Column("reply", sa.Text),
    #: Of the last attempt: the version of TLS, and how many milliseconds it took.
    sa.Column("tls", sa.Text),
    sa.Column("took", sa.Integer),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    #: The claim number it ended with; a re-driven message counts on from here.
    sa.Column("claims", sa.Integer, nullable=False, server_default="0"),
    sa.Column("possible_duplicate", sa.Boolean, nullable=False, server_default=sa.text("false")),
    sa.Column("answered", sa.SmallInteger, nullable=False, server_default="0"),
    # Room on the page for the one update at the end.
    postgresql_with={"fillfactor": "80"},
)

#: What a message says; insert-only.
contents = sa.Table(
    "contents",
    metadata,
    sa.Column("message_id", sa.Uuid, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

#: Files of messages in the attachment store; insert-only.
files = sa.Table(
    "files",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Uuid, nullable=False, index=True),
)

#: Which bundles of the attachment store have files of which messages; insert-only.
bundles = sa.Table(
    "bundles",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Uuid, primary_key=True, index=True),
)

#: One narrow row per unfinished message, deleted at its end. Neither claim nor a final settle touches an indexed column.
live = sa.Table(
    "live",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("integration_id", sa.Uuid, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("claim", sa.Integer, nullable=False, server_default="0"),
    sa.Column("session", sa.Uuid),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("blamed", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("crashes", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("possible_duplicate", sa.Boolean, nullable=False, server_default=sa.text("false")),
    #: When it last became queued; tells the sweep how old its ticket would be.
    sa.Column("queued_at", Instant),
    sa.Column("expires_at", Instant, nullable=False),
    #: Only a deferred or held row has it: when the sweep shall look at it again.
    sa.Column("wake_at", Instant),
    sa.Index(
        "live_sleeping",
        "wake_at",
        "integration_id",
        "id",
        postgresql_where=sa.text("wake_at IS NOT NULL"),
        sqlite_where=sa.text("wake_at IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "50"},
)

#: Every try but a first-try success, whose reply stands in `messages`; insert-only.
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("message_id", sa.Uuid, primary_key=True),
    sa.Column("claim", sa.Integer, primary_key=True),
    sa.Column("number", sa.SmallInteger, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant, nullable=False),
    sa.Column("session", sa.Uuid),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("blame", sa.Text),
    sa.Column("command", sa.Text),
    sa.Column("code", sa.SmallInteger),
    sa.Column("reply", sa.Text),
    #: The version of TLS it was said over; none where it was said in clear text, or nothing was.
    sa.Column("tls", sa.Text),
)

#: What failed for good, expired or is uncertain, until it is re-driven; what a person dismissed stays, out of sight.
dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("message_id", sa.Uuid, primary_key=True),
    sa.Column("integration_id", sa.Uuid, nullable=False),
    sa.Column("ended_at", Instant, nullable=False),
    # What failures of the same kind have in common, and the hash of it by which they are found.
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("command", sa.Text),
    sa.Column("code", sa.SmallInteger),
    sa.Column("said", sa.Text),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("dismissed_at", Instant),
    sa.Column("dismissed_by", sa.Text),
    sa.Column("dismissed_why", sa.Text),
    sa.Index(
        "dead_letters_open",
        "integration_id",
        "fingerprint",
        "message_id",
        postgresql_where=sa.text("dismissed_at IS NULL"),
        sqlite_where=sa.text("dismissed_at IS NULL"),
    ),
)

#: A whole group of dead letters on its way back to the queue, a few each second.
redrives = sa.Table(
    "redrives",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("integration_id", sa.Uuid, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("per_second", sa.Double, nullable=False),
    sa.Column("requested_at", Instant, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("why", sa.Text),
    #: How many there were when it was asked for, and how many were queued since.
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False, server_default="0"),
    #: Up to when its rate is spent.
    sa.Column("spent_until", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("stopped_by", sa.Text),
    sa.Index(
        "redrives_running",
        "requested_at",
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    ),
)

#: What happened in each minute, counted by the processes themselves; pages draw it.
tallies = sa.Table(
    "tallies",
    metadata,
    sa.Column("minute", Instant, primary_key=True),
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    #: Empty for what is of no service.
    sa.Column("service", sa.Text, primary_key=True),
    #: All zeros for what is of no integration.
    sa.Column("integration_id", sa.Uuid, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

#: The index of the search: what a run of messages, by id, has in it at all. Written behind the intake.
search_blocks = sa.Table(
    "search_blocks",
    metadata,
    sa.Column("first_id", sa.Uuid, primary_key=True),
    sa.Column("last_id", sa.Uuid, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    #: Hashes of every word, address and domain in the block.
    sa.Column("terms", Numbers, nullable=False),
    sa.Index("search_blocks_terms", "terms", postgresql_using="gin"),
)

#: Conversations that were opened by a call, or touched since a form opened them; an untouched form has no row.
conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    #: Whether a form submission opened it: its message has the same id.
    sa.Column("from_form", sa.Boolean, nullable=False),
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("opened_by", sa.Text),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("customer_address", sa.Text),
    sa.Column("customer_name", sa.Text),
    sa.Column("our_address", sa.Text),
    sa.Column("our_name", sa.Text),
    sa.Column("queue_id", sa.Uuid),
    #: What the client attached as key and value, as JSON: a list of pairs.
    sa.Column("attributes", sa.Text),
    #: What the form came in for: its replies leave through it where the domain says nothing else.
    sa.Column("integration_id", sa.Uuid),
    sa.Column("tenant", sa.Text),
    sa.Column("ended_at", Instant),
    sa.Column("ended_by", sa.Text),
)

#: What one side of a conversation wrote once, to all its recipients; insert-only. A form's own letter has no row.
letters = sa.Table(
    "letters",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("conversation_id", sa.Uuid, nullable=False, index=True),
    #: Of the messages that carry it; none for what came in.
    sa.Column("kind", sa.Text),
    sa.Column("author", sa.Text),
    sa.Column("at", Instant, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

#: Which message is whose copy of a letter; insert-only.
copies = sa.Table(
    "copies",
    metadata,
    sa.Column("message_id", sa.Uuid, primary_key=True),
    sa.Column("letter_id", sa.Uuid, nullable=False, index=True),
    #: Where its recipient stands among all of the letter's.
    sa.Column("number", sa.SmallInteger, nullable=False),
)

#: Files of letters in the attachment store; insert-only.
letter_files = sa.Table(
    "letter_files",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("letter_id", sa.Uuid, nullable=False, index=True),
)

#: The letter that is being written in a conversation.
drafts = sa.Table(
    "drafts",
    metadata,
    sa.Column("conversation_id", sa.Uuid, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

#: Files of drafts: announced, and (with a key) there.
draft_files = sa.Table(
    "draft_files",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("conversation_id", sa.Uuid, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    #: What its bytes must have as MD5, in base64, where the client said so.
    sa.Column("md5", sa.Text),
    sa.Column("inline", sa.Boolean, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("announced_at", Instant, nullable=False),
)

#: What was asked for once and may be asked for again: the same request gets the same answer and does nothing more.
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("body_hash", sa.Text, nullable=False),
    #: What it made.
    sa.Column("result_id", sa.Uuid, nullable=False),
    sa.Column("expires_at", Instant, nullable=False, index=True),
)

integrations = sa.Table(
    "integrations",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("security", sa.Text, nullable=False),
    #: The credential it logs in with; none for a server that asks for none.
    sa.Column("credential_id", sa.Uuid),
    sa.Column("from_address", sa.Text, nullable=False),
    sa.Column("from_name", sa.Text),
    sa.Column("default_mailbox", sa.Text),
    # Limits for all workers together; none where there is no value.
    sa.Column("max_connections", sa.Integer, nullable=False),
    sa.Column("per_second", sa.Double),
    sa.Column("per_day", sa.Integer),
    sa.Column("intended_state", sa.Text, nullable=False),
    sa.Column("reported_state", sa.Text, nullable=False),
    sa.Column("cause", sa.Text),
    sa.Column("transcript", sa.Text),
    sa.Column("since", Instant, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False, server_default="1"),
    #: Raised by every change of the configuration; who puts one must know the current number.
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("notes", sa.Text),
    #: What clients keep in `properties` and `advanced` that means nothing to us, as JSON.
    sa.Column("properties", sa.Text),
    sa.Column("advanced", sa.Text),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    #: When the last of these failures was counted: what failed beside it is the same failure once more.
    sa.Column("failed_at", Instant),
    sa.Column("ehlo_size", sa.BigInteger),
    # The slow start after a reset: since when it is ACTIVE again, and since when a first message is known to have passed.
    sa.Column("released_at", Instant),
    sa.Column("proven_at", Instant),
    # What a server that asked us to slow down left: messages a second, and when it was last lowered.
    sa.Column("pace", sa.Double),
    sa.Column("paced_at", Instant),
    # Which lanes ever had a message: a worker consumes only queues that exist.
    sa.Column("agent_lane", sa.Boolean, nullable=False, server_default=sa.text("false")),
    sa.Column("form_lane", sa.Boolean, nullable=False, server_default=sa.text("false")),
    sa.Column("campaign_lane", sa.Boolean, nullable=False, server_default=sa.text("false")),
)

#: What an integration logs in with. The password is sealed and never shown again.
credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("username", sa.Text),
    sa.Column("sealed_password", sa.Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("modified_at", Instant, nullable=False),
)

#: Which integration mail from an address of a domain leaves through: `inbound` for agents' replies, `outbound` for the rest.
domains = sa.Table(
    "domains",
    metadata,
    sa.Column("direction", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("integration_id", sa.Uuid),
    sa.Column("sub_domain", sa.Boolean, nullable=False, server_default=sa.text("false")),
    sa.Column("sender_type", sa.Text),
    sa.Column("created_at", Instant, nullable=False),
)

#: What has been used up of an integration's limits, by all workers together; rewritten several times a second.
allowances = sa.Table(
    "allowances",
    metadata,
    sa.Column("integration_id", sa.Uuid, primary_key=True),
    #: Up to when the rate is spent.
    sa.Column("spent_until", Instant, nullable=False),
    sa.Column("day", sa.Text, nullable=False),
    sa.Column("used", sa.Integer, nullable=False, server_default="0"),
    #: Up to when the release of held messages is spent.
    sa.Column("released_until", Instant, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

#: How many connections of an integration each worker may have.
seat_leases = sa.Table(
    "seat_leases",
    metadata,
    sa.Column("session", sa.Uuid, primary_key=True),
    sa.Column("integration_id", sa.Uuid, primary_key=True),
    sa.Column("seats", sa.Integer, nullable=False),
    #: How many it could use: what others leave is shared by need.
    sa.Column("wanted", sa.Integer, nullable=False),
)

#: Programs that may call the platform API.
clients = sa.Table(
    "clients",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("secret_hash", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    #: Set when it was disabled: its tokens are worth nothing from then on.
    sa.Column("ended_at", Instant),
)

#: Bearer tokens by their hash; the token itself is nowhere.
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("client_id", sa.Uuid, sa.ForeignKey("clients.id", ondelete="CASCADE"), nullable=False),
    sa.Column("issued_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False, index=True),
)

#: People.
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("ended_at", Instant),
)

#: People who are signed in at the pages, by the hash of what their browser shows; the token itself is nowhere.
sign_ins = sa.Table(
    "sign_ins",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("began_at", Instant, nullable=False),
    #: To the minute.
    sa.Column("seen_at", Instant, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("browser", sa.Text, nullable=False),
)

#: Sign-ins that failed lately: how often a name or an address may still try.
sign_in_failures = sa.Table(
    "sign_in_failures",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    #: `user <name>`, `address <address>`, `browser <number>`, or `change <name>` for who changes their password.
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Index("sign_in_failures_who", "who", "at"),
)

#: A live test that a worker takes, runs and answers.
connection_tests = sa.Table(
    "connection_tests",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("integration_id", sa.Uuid, sa.ForeignKey("integrations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    #: Whether its result decides the state (a reset) or is only told (a test).
    sa.Column("decides", sa.Boolean, nullable=False),
    sa.Column("requested_at", Instant, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("session", sa.Uuid),
    sa.Column("taken_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("passed", sa.Boolean),
    sa.Column("cause", sa.Text),
    sa.Column("transcript", sa.Text),
    # A test that also sends a letter: it, and the Message-ID it went out with.
    sa.Column("letter", sa.Text),
    sa.Column("message_id", sa.Text),
    sa.Index(
        "connection_tests_waiting",
        "integration_id",
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    ),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("beat", sa.Integer, nullable=False, server_default="0"),
    #: Set when it ended by itself or was declared dead; such a session can never beat again.
    sa.Column("ended_at", Instant),
    sa.Column("declared_dead", sa.Boolean, nullable=False, server_default=sa.text("false")),
)

#: How far each worker has come in each queue: its oldest ticket in hand, or the last one it acknowledged.
positions = sa.Table(
    "positions",
    metadata,
    sa.Column("session", sa.Uuid, primary_key=True),
    sa.Column("integration_id", sa.Uuid, primary_key=True),
    sa.Column("lane", sa.Text, primary_key=True),
    sa.Column("holding", sa.Boolean, nullable=False),
    sa.Column("published_at", Instant, nullable=False),
)

#: Every change a person or a process made to what decides: who, when, from, to, why.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("subject_id", sa.Uuid),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.Column("why", sa.Text),
    sa.Column("cause", sa.Text),
    #: The conversation with the server that led to it, without secrets.
    sa.Column("transcript", sa.Text),
    sa.Index("audit_subject", "subject", "subject_id", "at"),
    sa.Index("audit_time", "at"),
)

#: Single facts about this deployment, such as the marker of its attachment store.
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
