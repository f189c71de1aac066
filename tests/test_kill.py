"""A few kills; ``python -m tests.kill`` makes as many as one likes."""

import pytest

from tests.kill import run

pytestmark = pytest.mark.slow


def test_files_are_the_old_ones_or_the_new_ones() -> None:
    assert all(counts["kills"] == 2 for counts in run(2).values())
