"""Fixtures and hypothesis settings that all tests share."""

import os

from hypothesis import settings

pytest_plugins = ["tests.kafka_fixture", "tests.mariadb_fixture"]

# No deadline: a timed assertion on a shared machine tests the machine. In CI the examples are the same for the same
# code, so that what is submitted is judged by what it changes; everywhere else each run looks at new ones.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
