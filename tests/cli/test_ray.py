"""nvae-codec pack --ray, on a local cluster of Ray itself. Its workers import this file: it must not bring torch."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nvae_codec.coding.coded import Coded
from nvae_codec.coding.ledger import Ledger
from nvae_codec.zoo import library as model_library
from tests.cli.conftest import Run
from tests.fakes import FakeCodec


class Mortal(FakeCodec):
    """Codes two segments, and kills its process within the third; only one process does so."""

    def __init__(self, died: Path) -> None:
        super().__init__("photo")
        self.died = died

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        ledger: Ledger | None = None,
        *,
        effort: int = 1,
        shared: bytes = b"",
    ) -> Coded:
        if self.encoded >= 4:
            try:
                with self.died.open("x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(images, ledger)


class MortalModels(model_library.Models):
    """Loads nothing but that codec."""

    def __init__(self, model: object, *_runtime: Any) -> None:
        super().__init__(Mortal(Path(str(model))))


def test_a_worker_that_is_killed_changes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: the extra ray")
    source, alone, together, died = (tmp_path / name for name in ("in.npz", "a.nvae", "b.nvae", "died"))
    np.savez(source, images=np.random.default_rng(6).integers(0, 256, (24, 8, 8, 3), np.uint8))
    monkeypatch.setattr(model_library, "Models", MortalModels)
    how = ("--segment", 2, "--method", "model", "--model", died)
    died.touch()  # so that this process lives
    assert run("pack", source, "-o", alone, *how).error_lines == []
    died.unlink()
    result = run("pack", source, "-o", together, *how, "--ray", "local", "--workers", 2)
    assert result.code == 0, result.err
    assert died.read_text() not in ("", str(os.getpid())), "one was killed"
    assert together.read_bytes() == alone.read_bytes()
