"""Two kills; ``python -m tests.training.kills`` makes as many as one likes."""

from tests.training.kills import run


def test_a_killed_training_ends_as_one_that_was_not() -> None:
    assert run(2)["kills"] == 2
