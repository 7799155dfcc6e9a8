"""The sentence about skipped tests."""

from tests.skips import summarize_skips


def test_a_run_without_skips_has_no_sentence() -> None:
    """Nothing was skipped, so nothing is reported."""
    assert summarize_skips([], 10) is None


def test_each_reason_is_named_once_with_its_number_of_tests() -> None:
    """The most frequent reason comes first; the text of each reason says how to run its tests."""
    browser = "Skipped: Chromium is not installed; Debian: apt-get install chromium"
    database = "Skipped: MariaDB is not installed; Debian: apt-get install mariadb-server."
    assert summarize_skips([browser, database, database], 9) == (
        "3 of 9 tests were skipped: 2 because MariaDB is not installed; Debian: apt-get install mariadb-server; "
        "1 because Chromium is not installed; Debian: apt-get install chromium. "
        "`.ci/run` installs all of these programs."
    )
