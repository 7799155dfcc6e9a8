"""The script that alembic runs to apply this service's revisions."""

from chassis.db import migrations
from user_manager.model import SCHEMA

migrations.run_migrations(SCHEMA)
