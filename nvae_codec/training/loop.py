"""The training loop: from a recipe and images to a checkpoint that resumes exactly.

Crops and noise of a step come from the seed and the step's number alone, so a resumed run takes the very steps of one
that was never stopped.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.errors import NvaeCodecError
from nvae_codec.network.nvae import Elbo, Nvae
from nvae_codec.recipe import Recipe, format_recipe
from nvae_codec.training.checkpoint import (
    Average,
    part_of,
    read_checkpoint,
    restore_optimizer,
    save_checkpoint,
)
from nvae_codec.training.data import Crops
from nvae_codec.training.objective import BitsPerDim, balance_weights, kl_weight, learning_rate, weigh
from nvae_codec.training.regularization import SpectralNorms, scale_total, spectral_weight

PERSISTENT = 100
"""So many steps in a row without a finite gradient end the run with an error."""


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes what is learned but precision."""

    device: str = "cpu"
    bf16: bool = False
    compile: bool = False
    minutes: float | None = None
    report_seconds: float = 30.0
    save_seconds: float = 300.0


class Trainer:
    """One run: network, average, optimizer, and the folder that they are saved in."""

    def __init__(self, recipe: Recipe, run: Path, options: Options, *, resume: bool) -> None:
        """Start anew, or go on from the folder's checkpoint. Raises NvaeCodecError."""
        self.recipe, self.run, self.options = recipe, run, options
        self.device = torch.device(options.device)
        torch.manual_seed(recipe.training.seed)
        self.network = place(Nvae(recipe), self.device)
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        tensors = None
        if resume:
            saved, tensors, done = read_checkpoint(run)
            same = dataclasses.replace(recipe, training=saved.training)
            if same != saved:
                raise NvaeCodecError(f"{run}: its checkpoint has another network; --resume only changes [training]")
            self.network.load_state_dict(part_of(tensors, "network."))
            self.step, self.seconds = done["step"], done["seconds"]
        self.average = Average(self.network, recipe.training.ema)
        self.optimizer = make_optimizer(recipe, self.network)
        if tensors is not None:
            for name, value in part_of(tensors, "average.").items():
                self.average.state[name].copy_(value)
            restore_optimizer(self.optimizer, self.network, tensors)
        self.spectral = None
        if recipe.training.spectral_weight or recipe.training.spectral_start:
            self.spectral = SpectralNorms(self.network, recipe.training.seed)
            self.spectral.restore(tensors or {})
        self.alpha = balance_weights(recipe).to(self.device) if recipe.training.kl_balancing else None
        self._elbo: Callable[..., Elbo] = self._elbo_eagerly
        if options.compile:
            self._elbo = torch.compile(self._elbo_eagerly, dynamic=False)

    def _elbo_eagerly(self, pixels: Tensor, base_only: bool) -> Elbo:
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.options.bf16 else nullcontext()
        with autocast:
            elbo: Elbo = self.network(pixels, base_only=base_only)
        return elbo

    def take_step(self, data: Crops) -> BitsPerDim:
        """One step of the optimizer; a step without a finite gradient is skipped and counted."""
        training = self.recipe.training
        progress = self.step / training.steps
        rng = np.random.default_rng([training.seed, self.step])
        crops = data.draw(training.batch, rng)
        pixels = torch.from_numpy(crops).to(self.device)
        torch.manual_seed(int(rng.integers(2**62)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(training, self.step)
        weight = kl_weight(training, progress)
        elbo = self._elbo(pixels, progress < training.hierarchy_first_share)
        bits = weigh(elbo, weight, self.alpha if weight < 1 else None, pixels.numel())
        self.optimizer.zero_grad(set_to_none=True)
        self._loss(bits, weight, pixels).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), training.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.skipped = 0
            self.average.update(self.network, self.step + 1)
        else:
            self.skipped += 1
            if self.skipped >= PERSISTENT:
                raise NvaeCodecError(f"{PERSISTENT} steps in a row had no finite gradient; lower training.rate")
            self._heal()
        self.step += 1
        return bits

    def _loss(self, bits: BitsPerDim, kl: float, pixels: Tensor) -> Tensor:
        """The loss in the recipe's unit, with the regularisation, which is told for nats a picture."""
        training, nats = self.recipe.training, math.log(2) * pixels[0].numel()
        loss = bits.loss * nats if training.loss_unit == "nats" else bits.loss
        if self.spectral is not None:
            total = spectral_weight(training, kl) * (self.spectral.total() + scale_total(self.network))
            loss = loss + (total if training.loss_unit == "nats" else total / nats)
        return loss

    def _heal(self) -> None:
        """Give batch normalisation its averaged statistics back where a skipped step has ruined its own for ever."""
        for name, value in self.network.named_buffers():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                value.copy_(self.average.state[name])

    def save(self, **said: Any) -> None:
        """Write the checkpoint."""
        done = {"step": self.step, "seconds": round(self.seconds, 1), **said}
        more = self.spectral.state() if self.spectral is not None else None
        save_checkpoint(self.run, self.recipe, self.network, self.average, self.optimizer, done, more)


def place(network: Nvae, device: torch.device) -> Nvae:
    """The network on a device, in the layout that its convolutions prefer."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def make_optimizer(recipe: Recipe, network: Nvae) -> torch.optim.Optimizer:
    """Adamax as the official code, or AdamW."""
    training = recipe.training
    if training.optimizer == "adamax":
        return torch.optim.Adamax(
            network.parameters(), training.rate, eps=1e-3, weight_decay=training.weight_decay, foreach=True
        )
    return torch.optim.AdamW(
        network.parameters(), training.rate, betas=(0.9, 0.98), weight_decay=training.weight_decay, foreach=True
    )


@torch.inference_mode()
def measure(network: Nvae, crops: NDArray[np.uint8], batch: int = 4, seed: int = 0) -> dict[str, Any]:
    """Bits/dim of held-out crops (N, C, H, W) under a network, by part, and the share of latent channels in use."""
    device = next(network.parameters()).device
    torch.manual_seed(seed)
    network.eval()
    pixels = kl = None
    channels: list[Tensor] = []
    for start in range(0, len(crops), batch):
        elbo = network(torch.from_numpy(crops[start : start + batch]).to(device))
        bits = weigh(elbo, 1.0, None, crops.size)
        pixels = bits.pixels if pixels is None else pixels + bits.pixels
        kl = bits.kl if kl is None else kl + bits.kl
        each = [group.sum(0) for group in elbo.kl]
        channels = each if not channels else [a + b for a, b in zip(channels, each, strict=True)]
    network.train()
    assert pixels is not None
    assert kl is not None
    # a channel counts as active when it spends a hundredth of a nat at each of its places
    places = [crops.size / crops.shape[1] / recipe_stride**2 for recipe_stride in latent_strides(network.recipe)]
    active = [float((c / n > 0.01).float().mean()) for c, n in zip(channels, places, strict=True)]
    return {
        "bits_per_dim": round(float(pixels.sum() + kl.sum()), 5),
        "pixels": [round(float(v), 5) for v in pixels],
        "kl": [round(float(v), 5) for v in kl],
        "active": [round(v, 3) for v in active],
    }


def latent_strides(recipe: Recipe) -> list[int]:
    """Pixels a step of each group's latents, from the top."""
    network = recipe.network
    finest = network.patch * 2**network.preprocess_blocks
    return [finest * 2**scale for scale in reversed(range(len(network.groups))) for _ in range(network.groups[scale])]


def mean_of_steps(sums: list[tuple[float, NDArray[np.float64]]]) -> dict[str, Any]:
    """Bits/dim of the steps since the last report, from (pixels, KL a group) each; None where all were skipped."""
    if not sums:
        return {"train_bits_per_dim": None, "train_kl": None}
    kl = np.mean([k for _, k in sums], axis=0)
    total = float(np.mean([p for p, _ in sums]) + kl.sum())
    return {"train_bits_per_dim": round(total, 5), "train_kl": [round(float(v), 5) for v in kl]}


def train(trainer: Trainer, data: Crops, held_out: NDArray[np.uint8], report: Callable[[dict[str, Any]], None]) -> None:
    """Run to the recipe's last step, the time budget, or SIGTERM; report and save on the way and at the end."""
    options, recipe = trainer.options, trainer.recipe
    trainer.run.mkdir(parents=True, exist_ok=True)
    (trainer.run / "recipe.toml").write_text(format_recipe(recipe), encoding="utf-8")
    stopped = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    before = signal.signal(signal.SIGTERM, stop)
    average = place(Nvae(recipe), trainer.device)
    begin = last = reported = saved = time.monotonic()
    sums: list[tuple[float, NDArray[np.float64]]] = []
    steps = 0
    try:
        while trainer.step < recipe.training.steps and not stopped:
            bits = trainer.take_step(data)
            now = time.monotonic()
            trainer.seconds, last = trainer.seconds + now - last, now
            if not trainer.skipped:
                sums.append((float(bits.pixels.sum().detach()), bits.kl.detach().cpu().double().numpy()))
            steps += 1
            done = trainer.step == recipe.training.steps
            stopped = stopped or (options.minutes is not None and now - begin > 60 * options.minutes)
            if now - reported >= options.report_seconds or done or stopped:
                average.load_state_dict(trainer.average.state)
                line = {
                    "step": trainer.step,
                    "seconds": round(trainer.seconds, 1),
                    "steps_per_second": round(steps / (now - reported), 2),
                    "rate": learning_rate(recipe.training, trainer.step),
                    **mean_of_steps(sums),
                    "skipped": trainer.skipped,
                    "valid": measure(average, held_out),
                }
                with (trainer.run / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                report(line)
                reported, sums, steps = time.monotonic(), [], 0
                if now - saved >= options.save_seconds or done or stopped:
                    trainer.save(valid=line["valid"])
                    saved = time.monotonic()
                last = time.monotonic()
    finally:
        signal.signal(signal.SIGTERM, before)
