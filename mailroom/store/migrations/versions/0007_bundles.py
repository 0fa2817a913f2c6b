"""Files of several messages in one file of the attachment store"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    op.create_table(
        "bundles",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("key", "message_id"),
    )
    op.create_index(op.f("ix_bundles_message_id"), "bundles", ["message_id"], unique=False)


def downgrade() -> None:
    """Bring the tables back."""
    op.drop_index(op.f("ix_bundles_message_id"), table_name="bundles")
    op.drop_table("bundles")
