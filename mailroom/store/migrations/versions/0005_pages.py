"""The pages of operators"""

import sqlalchemy as sa
from alembic import op

from mailroom.fingerprint import cause_of
from mailroom.store.schema import Instant, Numbers

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: Dead letters that are looked at in one statement.
BATCH = 1000


def upgrade() -> None:
    """Bring the tables forward."""
    op.create_table(
        "dead_letters",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("integration_id", sa.Uuid(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("code", sa.SmallInteger(), nullable=True),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("dismissed_at", Instant(), nullable=True),
        sa.Column("dismissed_by", sa.Text(), nullable=True),
        sa.Column("dismissed_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_index(
        "dead_letters_open",
        "dead_letters",
        ["integration_id", "fingerprint", "message_id"],
        unique=False,
        postgresql_where=sa.text("dismissed_at IS NULL"),
        sqlite_where=sa.text("dismissed_at IS NULL"),
    )
    op.create_table(
        "redrives",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("integration_id", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("per_second", sa.Double(), nullable=False),
        sa.Column("requested_at", Instant(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("spent_until", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("stopped_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "redrives_running",
        "redrives",
        ["requested_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "search_blocks",
        sa.Column("first_id", sa.Uuid(), nullable=False),
        sa.Column("last_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("terms", Numbers(), nullable=False),
        sa.PrimaryKeyConstraint("first_id"),
    )
    op.create_index("search_blocks_terms", "search_blocks", ["terms"], unique=False, postgresql_using="gin")
    op.create_table(
        "sign_in_failures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sign_in_failures_who", "sign_in_failures", ["who", "at"], unique=False)
    op.create_table(
        "tallies",
        sa.Column("minute", Instant(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("integration_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "what", "kind", "service", "integration_id"),
    )
    op.create_table(
        "sign_ins",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("began_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index(op.f("ix_sign_ins_user_id"), "sign_ins", ["user_id"], unique=False)
    op.add_column("attempts", sa.Column("tls", sa.Text(), nullable=True))
    op.create_index("audit_time", "audit", ["at"], unique=False)
    op.add_column("messages", sa.Column("tls", sa.Text(), nullable=True))
    op.add_column("messages", sa.Column("took", sa.Integer(), nullable=True))
    _enter_dead_letters()


#: The tables as this version has them, whatever becomes of them later.
_messages = sa.table(
    "messages",
    sa.column("id", sa.Uuid()),
    sa.column("integration_id", sa.Uuid()),
    sa.column("status", sa.Text()),
    sa.column("ended_at", Instant()),
    sa.column("reason", sa.Text()),
    sa.column("reply", sa.Text()),
)
_dead_letters = sa.table(
    "dead_letters",
    sa.column("message_id", sa.Uuid()),
    sa.column("integration_id", sa.Uuid()),
    sa.column("ended_at", Instant()),
    sa.column("reason", sa.Text()),
    sa.column("command", sa.Text()),
    sa.column("code", sa.SmallInteger()),
    sa.column("said", sa.Text()),
    sa.column("fingerprint", sa.Text()),
)


def _enter_dead_letters() -> None:
    """Those that there are already get their rows, a batch at a time."""
    tx, dead = op.get_bind(), _messages.c.status.in_(("failed", "expired", "uncertain"))
    query = sa.select(_messages).where(dead, _messages.c.integration_id.is_not(None)).order_by(_messages.c.id)
    rows = tx.execute(query.limit(BATCH)).all()
    while rows:
        tx.execute(sa.insert(_dead_letters), [_dead_letter(row) for row in rows])
        rows = tx.execute(query.where(_messages.c.id > rows[-1].id).limit(BATCH)).all()


def _dead_letter(row: sa.Row[tuple[object, ...]]) -> dict[str, object]:
    cause = cause_of(row.reason or row.status, row.reply)
    return {
        "message_id": row.id, "integration_id": row.integration_id, "ended_at": row.ended_at, "reason": cause.reason,
        "command": cause.command, "code": cause.code, "said": cause.said, "fingerprint": cause.fingerprint,
    }  # fmt: skip


def downgrade() -> None:
    """Bring the tables back."""
    op.drop_column("messages", "took")
    op.drop_column("messages", "tls")
    op.drop_index("audit_time", table_name="audit")
    op.drop_column("attempts", "tls")
    op.drop_index(op.f("ix_sign_ins_user_id"), table_name="sign_ins")
    op.drop_table("sign_ins")
    op.drop_table("tallies")
    op.drop_index("sign_in_failures_who", table_name="sign_in_failures")
    op.drop_table("sign_in_failures")
    op.drop_index("search_blocks_terms", table_name="search_blocks", postgresql_using="gin")
    op.drop_table("search_blocks")
    op.drop_index(
        "redrives_running",
        table_name="redrives",
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    )
    op.drop_table("redrives")
    op.drop_index(
        "dead_letters_open",
        table_name="dead_letters",
        postgresql_where=sa.text("dismissed_at IS NULL"),
        sqlite_where=sa.text("dismissed_at IS NULL"),
    )
    op.drop_table("dead_letters")
