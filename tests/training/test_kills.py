"""A training that is killed at random (SIGKILL) and resumed ends with the weights of one that was not, bit for bit.

``KILLS=20 python -m pytest tests/training/test_kills.py`` kills it twenty times.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from nvae_codec.cli.main import main
from nvae_codec.training.checkpoint import FILE, read_checkpoint
from tests.models import OFFICIAL, change, save_images

RECIPE = change(OFFICIAL, "training.warmup_steps = 5", "training.spectral_weight = 0.1")
MOST_STEPS = 8
"""A process is killed after fewer of them."""


def train_words(folder: Path, run: Path, steps: int) -> list[str]:
    """A training that reports and saves at each step, and goes on where a checkpoint is."""
    words = ["train", folder / "recipe.toml", "--data", folder / "images", "--out", run, "--steps", steps]
    words += ["--device", "cpu", "--threads", 1, "--valid-crop", 16, "--report-seconds", 0, "--save-seconds", 0]
    return [str(word) for word in [*words, *(["--resume"] if (run / FILE).exists() else [])]]


def start_training(*given: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nvae_codec", *train_words(*given)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_at_random(process: subprocess.Popen[str], rng: random.Random) -> None:
    """After so many lines of the report and a part of the next step; a tenth before there are any."""
    assert process.stdout is not None
    if rng.random() < 0.1:
        time.sleep(rng.random())
    else:
        for _ in range(rng.randrange(1, MOST_STEPS)):
            began = time.monotonic()
            process.stdout.readline()
        time.sleep(rng.random() * min(1.0, time.monotonic() - began))
    process.kill()
    process.communicate()


def count_lines(run: Path) -> int:
    log = run / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    rng, kills = random.Random(0), int(os.environ.get("KILLS", "2"))
    steps = kills * MOST_STEPS
    (tmp_path / "recipe.toml").write_text(RECIPE)
    save_images(tmp_path / "images", 2, 32)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert main(train_words(tmp_path, straight, steps)) == 0
    for _ in range(kills):
        kill_at_random(start_training(tmp_path, broken, steps), rng)
    assert main(train_words(tmp_path, broken, steps)) == 0
    (_, one, done), (_, other, other_done) = read_checkpoint(straight), read_checkpoint(broken)
    assert done["step"] == other_done["step"] == steps
    assert done["valid"] == other_done["valid"]
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert count_lines(straight) == count_lines(broken) == steps
