"""The storm of the whole stack: two of each service, a broker, a database, a mail server and a source, all disturbed.

`python -m tests.faults.storm --help` runs seeds by hand; `tests/faults/test_storm.py` runs one in CI.
"""
