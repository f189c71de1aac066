"""Trainings killed at random (SIGKILL) and resumed each time end with the weights of one that was not, bit for bit.

``python -m tests.training.kills --kills 20`` runs the long way; ``test_kills.py`` a short one.
"""

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
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


def run(kills: int, seed: int = 0) -> Counter[str]:
    """Kill a training so many times. Raises AssertionError where it ends with another state than one left alone."""
    rng, counts, steps = random.Random(seed), Counter[str](), kills * MOST_STEPS
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.toml").write_text(RECIPE)
        save_images(folder / "images", 2, 32)
        straight, broken = folder / "straight", folder / "broken"
        assert main(train_words(folder, straight, steps)) == 0
        for _ in range(kills):
            kill_at_random(start_training(folder, broken, steps), rng)
            counts["in a save"] += (broken / (FILE + ".part")).exists()
            counts["steps redone"] += lines_after_checkpoint(broken)
        assert main(train_words(folder, broken, steps)) == 0
        (_, one, done), (_, other, other_done) = read_checkpoint(straight), read_checkpoint(broken)
        assert done["step"] == other_done["step"] == steps
        assert done["valid"] == other_done["valid"]
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
        assert count_lines(straight) == count_lines(broken) == steps
    return counts + Counter({"kills": kills, "steps": steps, "tensors": len(one)})


def count_lines(run: Path) -> int:
    log = run / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def lines_after_checkpoint(run: Path) -> int:
    """Reports of steps that the checkpoint does not have."""
    return count_lines(run) - (read_checkpoint(run)[2]["step"] if (run / FILE).exists() else 0)


def kill_as_told() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(dict(run(options.kills, options.seed)))


if __name__ == "__main__":
    kill_as_told()
