"""A few mutants of every kind of file; ``python -m tests.fuzz`` makes as many as one likes."""

from __future__ import annotations

from tests.fuzz import run


def test_mutants_are_refused_or_read() -> None:
    counts = run(600)
    assert all(of.get("refused", 0) for of in counts.values())
