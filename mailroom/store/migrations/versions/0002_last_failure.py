"""When the last failure of an integration was counted"""

import sqlalchemy as sa
from alembic import op

from mailroom.store.schema import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    op.add_column("integrations", sa.Column("failed_at", Instant(), nullable=True))


def downgrade() -> None:
    """Undo it."""
    op.drop_column("integrations", "failed_at")
