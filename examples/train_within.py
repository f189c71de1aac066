"""One variant of an experiment: trained for a given processor time, and measured."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.network.nvae import Nvae
from nvae_codec.recipe import Recipe
from nvae_codec.training.data import Crops
from nvae_codec.training.loop import Options, Trainer, measure

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
        measured = measure(trainer.network, held_out)
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
