"""What alembic runs to apply this service's revisions."""

from chassis import migrations
from collector.model import SCHEMA

migrations.run(SCHEMA)
