"""What is accepted comes as one array of rows"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TYPE accepted_message AS ("
            "id uuid, kind text, service text, tenant text, integration_id uuid, recipient text, sender text, "
            "subject text, size bigint, accepted_at double precision, expires_at double precision, status text, "
            "body_begins integer, body_bytes integer)"
        )


def downgrade() -> None:
    """Bring the tables back."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TYPE accepted_message")
