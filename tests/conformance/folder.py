"""The folder of reference cases, named by the environment variable NVAE_CONFORMANCE."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

VARIABLE = "NVAE_CONFORMANCE"
FOLDER = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
needs_folder = pytest.mark.skipif(FOLDER is None, reason=f"{VARIABLE} names no folder of reference cases")


def list_cases(*, training: bool = False) -> list[Any]:
    """All case folders, found by their case.json: those of training, or the others; one to skip without any."""
    found = sorted(path.parent for path in FOLDER.rglob("case.json")) if FOLDER else []
    kept = [case for case in found if (case / "trainmode_f64.npz").exists() == training]
    if not kept:
        reason = f"{VARIABLE} names no folder of reference cases" if FOLDER is None else f"no such case in {FOLDER}"
        return [pytest.param(Path(), marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(case, id=case.name) for case in kept]


@cache
def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def read_description(case: Path) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((case / "case.json").read_text())
    return description


def distance(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference as a share of the expectation's largest entry; of the first images where it has fewer."""
    found = found[: len(expected)] if expected.ndim else found
    assert found.shape == expected.shape
    largest = float(np.abs(expected).max()) if expected.size else 0.0
    difference = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()) if expected.size else 0.0
    assert np.isfinite(difference)
    return difference / largest if largest else difference
