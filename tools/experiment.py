"""An experiment: variants, each trained for the same processor time and measured; results kept from run to run."""

import argparse
import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.evaluation.machine import describe_machine
from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.training.data import Crops
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.measure import measure

UNTIMED_STEPS, TIMED_STEPS = 5, 10
"""The speed is measured at the end of a short run: first steps iterate spectral norms longer, or compile."""


def train_within(
    seconds: float,
    recipe: Recipe,
    data: Crops,
    held_out: NDArray[np.uint8],
    change: Callable[[Nvae], None] = lambda network: None,
    *,
    compiled: bool = False,
) -> dict[str, Any]:
    """Train a new network for so many seconds of processor time, by a schedule as long, and measure it.

    held_out: uint8 (N, C, H, W). ``change``: what is done to the network before its first step. ``compiled``: in
    bfloat16 by torch.compile, whose own time comes on top.
    """
    options = Options(save_seconds=math.inf, compile=compiled, precision="bf16" if compiled else "float32")
    with tempfile.TemporaryDirectory() as folder:

        def begin(steps: int) -> Trainer:
            training = dataclasses.replace(recipe.training, steps=steps, warmup_steps=steps // 50)
            trainer = Trainer(dataclasses.replace(recipe, training=training), Path(folder), options, resume=False)
            change(trainer.network)
            return trainer

        timed = begin(UNTIMED_STEPS + TIMED_STEPS)
        for _ in range(UNTIMED_STEPS):
            timed.take_step(data)
        start = time.process_time()
        for _ in range(TIMED_STEPS):
            timed.take_step(data)
        a_step = (time.process_time() - start) / TIMED_STEPS
        steps = max(TIMED_STEPS, round(seconds / a_step))
        trainer = begin(steps)
        start, seen = time.process_time(), []
        for _ in range(steps):
            bits = trainer.take_step(data)
            seen.append((float(bits.pixels.sum().detach()), float(bits.kl.sum().detach())))
        spent = time.process_time() - start
        network = Nvae(trainer.recipe)  # a new one: cells of the trained one may be bound to bfloat16
        network.load_state_dict(trainer.network.state_dict())
        change(network)
        measured = measure(network, held_out)
    last = np.mean(seen[-max(1, steps // 10) :], axis=0)
    return {
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "steps": steps,
        "seconds": round(spent, 1),
        "milliseconds_a_step": round(1000 * spent / steps, 1),
        "train_reconstruction": round(float(last[0]), 4),
        "train_kl": round(float(last[1]), 4),
        "active_latents": round(sum(np.multiply(measured["active"], trainer.network.latents))),
        "held_out": measured["bits_per_dim"],
        "held_out_kl": measured["kl"],
        "held_out_pixels": measured["pixels"],
    }


Result = dict[str, Any]


def make_parser(description: str | None, data: str, minutes: float) -> argparse.ArgumentParser:
    """The options of an experiment. ``data``: what its images are; ``minutes``: a variant's usual time."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="SOURCE", help=f"{data}, as train takes them")
    parser.add_argument("--minutes-each", type=float, default=minutes, metavar="M", help="processor time of a variant")
    parser.add_argument("--json", type=Path, required=True, help="results, kept from one run to the next")
    parser.add_argument("--page", type=Path, required=True, help="the tables as Markdown")
    return parser


def run_variants(
    given: argparse.Namespace, names: Mapping[str, Callable[[float], Result]], described: Result
) -> Result:
    """Train the variants that the JSON of the same budget lacks, on one thread; it is written after each.

    ``names``: what trains each for so many seconds. ``described``: what else the JSON says; one that says otherwise is
    started again.
    """
    torch.set_num_threads(1)
    before: Result = json.loads(given.json.read_text()) if given.json.exists() else {}
    same = {"minutes_each": given.minutes_each, **described}
    kept = before["variants"] if all(before.get(key) == value for key, value in same.items()) else {}
    machine = describe_machine() | {"threads": 1}
    result = {"variants": kept, "machine": machine, "minutes_each": given.minutes_each, **described}
    for name, train in names.items():
        if name not in kept:
            kept[name] = train(60 * given.minutes_each)
            given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(f"{name}: {kept[name]}", flush=True)
    return result
