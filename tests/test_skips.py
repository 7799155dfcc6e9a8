"""The sentence about skipped tests."""

import pytest

from tests.skips import skip_unless_required, summarize_skips


def test_a_run_without_skips_has_no_sentence() -> None:
    """Nothing was skipped, so nothing is reported."""
    assert summarize_skips([], 10) is None


def test_each_reason_is_named_once_with_its_number_of_tests() -> None:
    """The most frequent reason comes first; the text of each reason says how to run its tests."""
    browser = "Skipped: Chromium is not installed; Debian: apt-get install chromium"
    database = "Skipped: MariaDB is not installed; Debian: apt-get install mariadb-server."
    assert summarize_skips([browser, database, database], 9) == (
        "3 of 9 tests were skipped: 2 because MariaDB is not installed; Debian: apt-get install mariadb-server; "
        "1 because Chromium is not installed; Debian: apt-get install chromium."
    )


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_program_a_test_is_skipped(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """An empty variable is as good as none."""
    monkeypatch.delenv("TOWERWATCH_REQUIRE_EXAMPLE", raising=False)
    if value is not None:
        monkeypatch.setenv("TOWERWATCH_REQUIRE_EXAMPLE", value)
    with pytest.raises(pytest.skip.Exception, match="no example"):
        skip_unless_required("EXAMPLE", "no example")


def test_without_a_required_program_a_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """CI requires all programs, so that no skip hides a claim there."""
    monkeypatch.setenv("TOWERWATCH_REQUIRE_EXAMPLE", "1")
    with pytest.raises(pytest.fail.Exception, match="no example"):
        skip_unless_required("EXAMPLE", "no example")
