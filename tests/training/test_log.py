"""What a run tells: a line a report, none twice, and the same numbers for TensorBoard."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nvae_codec.errors import NvaeCodecError
from nvae_codec.recipes.files import read_recipe
from nvae_codec.training.log import Log
from tests.models import make_recipe


def line(step: int) -> dict[str, Any]:
    return {"step": step, "train_bits_per_dim": None, "train_kl": [0.5, 0.25], "valid": {"bits_per_dim": 3.5}}


def steps(run: Path) -> list[int]:
    return [json.loads(text)["step"] for text in (run / "log.jsonl").read_text().splitlines()]


def test_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    run = tmp_path / "run"
    log = Log(run, 0, make_recipe(), tensorboard=False)
    for step in (2, 4, 6):
        log.write(line(step))
    assert read_recipe(run / "recipe.toml") == make_recipe()
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 8, "train_b')  # killed while it wrote
    resumed = Log(run, 4, make_recipe(), tensorboard=False)
    assert steps(run) == [2, 4]
    resumed.write(line(5))
    assert steps(run) == [2, 4, 5]


def test_tensorboard_has_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard, which is optional, is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path, 0, make_recipe(), tensorboard=True)
    log.write(line(3))
    log.write(line(7))
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"step", "train_kl/0", "train_kl/1", "valid/bits_per_dim"}
    assert [(event.step, event.value) for event in board.Scalars("train_kl/1")] == [(3, 0.25), (7, 0.25)]


def test_a_missing_tensorboard_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(NvaeCodecError, match="--tensorboard needs tensorboard"):
        Log(tmp_path / "run", 0, make_recipe(), tensorboard=True)
    assert not (tmp_path / "run").exists()
