"""A few mutants of every kind of file; ``python -m tools.fuzz`` makes as many as one likes."""

import pytest

from tools.fuzz import SHARES, run

pytestmark = pytest.mark.slow


def test_mutants_are_refused_or_read() -> None:
    result = run(700)
    assert result.failures == []
    assert all(result.counts[group]["refused"] for group in SHARES)
