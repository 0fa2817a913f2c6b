"""What the platform API administers: credentials, domains, clients, users; and the limits of integrations"""

import sqlalchemy as sa
from alembic import op

from mailroom.store.schema import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    op.create_table(
        "allowances",
        sa.Column("integration_id", sa.Uuid(), nullable=False),
        sa.Column("spent_until", Instant(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("used", sa.Integer(), server_default="0", nullable=False),
        sa.Column("released_until", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("integration_id"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "clients",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("sealed_password", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("modified_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "domains",
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("integration_id", sa.Uuid(), nullable=True),
        sa.Column("sub_domain", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("sender_type", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("direction", "name"),
    )
    op.create_table(
        "seat_leases",
        sa.Column("session", sa.Uuid(), nullable=False),
        sa.Column("integration_id", sa.Uuid(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("session", "integration_id"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "tokens",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("issued_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index(op.f("ix_tokens_expires_at"), "tokens", ["expires_at"], unique=False)
    op.add_column("audit", sa.Column("cause", sa.Text(), nullable=True))
    op.add_column("audit", sa.Column("transcript", sa.Text(), nullable=True))
    op.add_column("connection_tests", sa.Column("letter", sa.Text(), nullable=True))
    op.add_column("connection_tests", sa.Column("message_id", sa.Text(), nullable=True))
    op.add_column("integrations", sa.Column("credential_id", sa.Uuid(), nullable=True))
    op.add_column("integrations", sa.Column("per_second", sa.Double(), nullable=True))
    op.add_column("integrations", sa.Column("per_day", sa.Integer(), nullable=True))
    op.add_column("integrations", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("integrations", sa.Column("notes", sa.Text(), nullable=True))
    op.add_column("integrations", sa.Column("properties", sa.Text(), nullable=True))
    op.add_column("integrations", sa.Column("advanced", sa.Text(), nullable=True))
    op.add_column("integrations", sa.Column("released_at", Instant(), nullable=True))
    op.add_column("integrations", sa.Column("proven_at", Instant(), nullable=True))
    op.add_column("integrations", sa.Column("pace", sa.Double(), nullable=True))
    op.add_column("integrations", sa.Column("paced_at", Instant(), nullable=True))
    # What an integration logs in with becomes a credential of its own, under the integration's id.
    op.execute(
        "INSERT INTO credentials (id, name, type, username, sealed_password, created_at, modified_at) "
        "SELECT id, name, 'basicAuth', username, sealed_password, since, since FROM integrations "
        "WHERE username IS NOT NULL"
    )
    op.execute("UPDATE integrations SET credential_id = id WHERE username IS NOT NULL")
    op.drop_column("integrations", "sealed_password")
    op.drop_column("integrations", "username")


def downgrade() -> None:
    """Bring the tables back."""
    op.add_column("integrations", sa.Column("username", sa.Text(), nullable=True))
    op.add_column("integrations", sa.Column("sealed_password", sa.Text(), nullable=True))
    for column in ("username", "sealed_password"):
        op.execute(
            f"UPDATE integrations SET {column} = "  # noqa: S608 - one of the two names above
            f"(SELECT c.{column} FROM credentials AS c WHERE c.id = integrations.credential_id)"
        )
    op.drop_column("integrations", "paced_at")
    op.drop_column("integrations", "pace")
    op.drop_column("integrations", "proven_at")
    op.drop_column("integrations", "released_at")
    op.drop_column("integrations", "advanced")
    op.drop_column("integrations", "properties")
    op.drop_column("integrations", "notes")
    op.drop_column("integrations", "version")
    op.drop_column("integrations", "per_day")
    op.drop_column("integrations", "per_second")
    op.drop_column("integrations", "credential_id")
    op.drop_column("connection_tests", "message_id")
    op.drop_column("connection_tests", "letter")
    op.drop_column("audit", "transcript")
    op.drop_column("audit", "cause")
    op.drop_index(op.f("ix_tokens_expires_at"), table_name="tokens")
    op.drop_table("tokens")
    op.drop_table("users")
    op.drop_table("seat_leases")
    op.drop_table("domains")
    op.drop_table("credentials")
    op.drop_table("clients")
    op.drop_table("allowances")
