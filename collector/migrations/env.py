"""Applies this service's revisions; alembic runs this script."""

from chassis.db import migrations
from collector.model import SCHEMA

migrations.run_migrations(SCHEMA)
