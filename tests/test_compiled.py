"""Compiled loops: what is said of compiling them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_compiling_is_said_once_and_not_by_the_next_command(tmp_path: Path) -> None:
    kernels = tmp_path / "loops.py"
    kernels.write_text(
        "from nvae_codec.compiled import Kernel\n"
        "def one(begin, end, out):\n    out[begin:end] = 1\n"
        "def two(begin, end, out):\n    out[begin:end] = 2\n"
        "import numba, numpy, sys\n"
        "Kernel(globals()[sys.argv[1]])._compiled(0, 3, numpy.zeros(3))\n"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    environment.pop("NUMBA_CACHE_DIR", None)
    said = [
        subprocess.run([sys.executable, kernels, name], env=environment, capture_output=True, text=True, check=True)
        for name in ("one", "two", "one")
    ]
    assert ["compiling its loops" in each.stderr for each in said] == [True, False, False]
