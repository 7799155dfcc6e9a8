"""What alembic runs to apply this service's revisions."""

from chassis import migrations
from user_manager.model import SCHEMA

migrations.run(SCHEMA)
