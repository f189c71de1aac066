"""The training loop: from a recipe and images to a checkpoint that resumes exactly.

Crops and noise of a step come from the seed and the step's number alone, so a resumed run takes the very steps of one
that was never stopped, and several processes, each with its part of every batch, those of one process with all of it.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.errors import NvaeCodecError
from nvae_codec.network.noise import Noise
from nvae_codec.network.nvae import Elbo, Nvae
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.training.checkpoint import (
    Average,
    copy_weights,
    part_of,
    read_checkpoint,
    restore_optimizer,
    save_checkpoint,
)
from nvae_codec.training.data import Crops
from nvae_codec.training.histories import draw_kind, with_histories
from nvae_codec.training.log import Log
from nvae_codec.training.memory import checkpoint_cells, peak_memory
from nvae_codec.training.objective import BitsPerDim, balance_weights, kl_weight, learning_rate, weigh
from nvae_codec.training.precision import FIRST_LOSS_SCALE, choose_autocast, keep_latents_precise
from nvae_codec.training.processes import Processes
from nvae_codec.training.regularization import SpectralNorms, scale_total, spectral_weight

PERSISTENT = 100
"""So many steps in a row without a finite gradient end the run with an error."""


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes what is learned but precision."""

    device: str = "cpu"
    precision: str = ""
    """float32, bf16, fp16 (of the networks; likelihoods are always float32); empty: the launcher's, or float32."""
    compile: bool = False
    checkpointing: bool = False
    minutes: float | None = None
    report_seconds: float = 30.0
    save_seconds: float = 300.0
    tensorboard: bool = False


class Trainer:
    """One run: network, average, optimizer, and the folder that they are saved in."""

    def __init__(self, recipe: Recipe, run: Path, options: Options, *, resume: bool) -> None:
        """Start anew, or go on from the folder's checkpoint. Raises NvaeCodecError."""
        self.recipe, self.run, self.options = recipe, run, options
        self.processes = Processes(options.device)
        self.device, self.rows = self.processes.device, self.processes.rows(recipe.training.batch)
        self.autocast = choose_autocast(options.precision)
        torch.manual_seed(recipe.training.seed)
        self.network = place(Nvae(recipe), self.device)
        self.network.noise = Noise(self.processes.index, self.processes.count)
        self.step, self.seconds, self.skipped, self.skipped_in_a_row = 0, 0.0, 0, 0
        self.average = Average(self.network, recipe.training.ema)
        self.optimizer = make_optimizer(recipe, self.network)
        self.scaler = torch.amp.GradScaler(
            self.device.type, init_scale=FIRST_LOSS_SCALE, enabled=self.autocast == torch.float16
        )
        self.spectral = None
        if recipe.training.spectral_weight or recipe.training.spectral_start:
            self.spectral = SpectralNorms(self.network, recipe.training.seed)
        if resume:
            self._restore()
        self.alpha = balance_weights(recipe).to(self.device) if recipe.training.kl_balancing else None
        if options.compile and options.checkpointing:
            raise NvaeCodecError("--compile and --checkpointing do not go together")
        if options.checkpointing:
            checkpoint_cells(self.network)
        if self.autocast and recipe.network.pyramid_start:
            keep_latents_precise(self.network, self.device, self.autocast)
        self._elbo: Callable[..., Elbo] = self._elbo_eagerly
        if options.compile:
            self._elbo = torch.compile(self._elbo_eagerly, dynamic=False)

    def _restore(self) -> None:
        saved, tensors, done = read_checkpoint(self.run)
        if dataclasses.replace(self.recipe, training=saved.training) != saved:
            raise NvaeCodecError(f"{self.run}: its checkpoint has another network; --resume only changes [training]")
        # of a run that is over the average may be all that was kept
        self.network.load_state_dict(part_of(tensors, "network.") or part_of(tensors, "average."))
        for name, value in part_of(tensors, "average.").items():
            self.average.state[name].copy_(value)
        restore_optimizer(self.optimizer, self.network, tensors)
        if self.spectral is not None:
            self.spectral.restore(tensors)
        self.step, self.seconds = done["step"], done["seconds"]
        self.skipped, self.skipped_in_a_row = done.get("skipped", [0, 0])
        if done.get("scaler"):
            self.scaler.load_state_dict(done["scaler"])

    def start_from(self, run: Path, prefix: str = "") -> int:
        """Before the first step, take over what fits of another run's weights; returns how many tensors.

        Raises NvaeCodecError.
        """
        count = copy_weights(self.network, run, prefix)
        self.average = Average(self.network, self.recipe.training.ema)
        return count

    def _elbo_eagerly(self, pixels: Tensor, base_only: bool, expert: int) -> Elbo:
        with torch.autocast(self.device.type, self.autocast) if self.autocast else nullcontext():
            elbo: Elbo = self.network(pixels, base_only=base_only, expert=expert)
        return elbo

    def take_step(self, data: Crops) -> BitsPerDim:
        """One step of the optimizer; a step without a finite gradient is skipped and counted.

        Returns the bits/dim of the whole batch, whichever process has which part of it.
        """
        training = self.recipe.training
        progress = self.step / training.steps
        rng = np.random.default_rng([training.seed, self.step])
        histories = training.histories
        kind = draw_kind(histories, rng) if histories is not None else None
        expert = histories.experts[kind] if histories is not None and kind is not None else 0
        pixels = torch.from_numpy(data.draw(training.batch, rng, self.rows, kind)).to(self.device)
        torch.manual_seed(int(rng.integers(2**62)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(training, self.step)
        weight = kl_weight(training, progress)
        elbo = self._elbo(pixels, progress < training.base_first_fraction, expert)
        bits = weigh(elbo, weight, self.alpha if weight < 1 else None, pixels.numel(), self.processes.mean)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(self._loss(bits, weight, pixels)).backward()  # type: ignore[no-untyped-call]
        bits = self._average(bits)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), training.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.skipped_in_a_row = 0
            self.average.update(self.network, self.step + 1)
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
            if self.skipped_in_a_row >= PERSISTENT:
                raise NvaeCodecError(
                    f"{PERSISTENT} steps in a row had no finite gradient; lower training.learning_rate"
                )
            self._heal()
        self.scaler.update()
        self.step += 1
        return bits

    def _average(self, bits: BitsPerDim) -> BitsPerDim:
        """Average gradients, batch norm's statistics and the bits over the processes, so that all stay the same."""
        loss, pixels, kl = (part.detach().clone() for part in (bits.loss, bits.pixels, bits.kl))
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        statistics = [value for value in self.network.buffers() if value.is_floating_point()]
        self.processes.average([*gradients, *statistics, loss, pixels, kl])
        return BitsPerDim(loss, pixels, kl)

    def _loss(self, bits: BitsPerDim, weight: float, pixels: Tensor) -> Tensor:
        """The loss in the recipe's unit, with the regularisation, which is told for nats an image.

        ``weight``: the KL's, with which the regularisation's changes.
        """
        training, nats = self.recipe.training, math.log(2) * pixels[0].numel()
        loss = bits.loss * nats if training.loss_unit == "nats" else bits.loss
        if self.spectral is not None:
            total = spectral_weight(training, weight) * (self.spectral.total() + scale_total(self.network))
            loss = loss + (total if training.loss_unit == "nats" else total / nats)
        return loss

    def _heal(self) -> None:
        """Give batch normalisation its averaged statistics back where a skipped step has ruined its own for ever."""
        for name, value in self.network.named_buffers():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                value.copy_(self.average.state[name])

    def save(self, **said: Any) -> None:
        """Write the checkpoint."""
        done = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "skipped": [self.skipped, self.skipped_in_a_row],
            "scaler": self.scaler.state_dict(),
            **said,
        }
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
            network.parameters(), training.learning_rate, eps=1e-3, weight_decay=training.weight_decay, foreach=True
        )
    return torch.optim.AdamW(
        network.parameters(),
        training.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=training.weight_decay,
        foreach=True,
    )


@torch.inference_mode()
def measure(
    network: Nvae, crops: NDArray[np.uint8], batch: int | None = None, seed: int = 0, expert: int = 0
) -> dict[str, Any]:
    """Bits/dim of held-out crops (N, C, H, W) under a network, by part, and the share of latent channels in use.

    Without ``batch`` as many at once as have the pixels of four crops of 256x256.
    """
    batch = batch or max(1, 4 * 256**2 // (crops.shape[2] * crops.shape[3]))
    device = next(network.parameters()).device
    torch.manual_seed(seed)
    network.eval()
    pixels = kl = None
    channels: list[Tensor] = []
    for start in range(0, len(crops), batch):
        elbo = network(torch.from_numpy(crops[start : start + batch]).to(device), expert=expert)
        bits = weigh(elbo, 1.0, None, crops.size)
        pixels = bits.pixels if pixels is None else pixels + bits.pixels
        kl = bits.kl if kl is None else kl + bits.kl
        each = [group.sum(0) for group in elbo.kl]
        channels = each if not channels else [a + b for a, b in zip(channels, each, strict=True)]
    network.train()
    assert pixels is not None
    assert kl is not None
    # a channel counts as active when it spends a hundredth of a nat at each of its places
    places = [crops.size / crops.shape[1] / stride**2 for stride in network.recipe.network.latent_strides]
    active = [float((c / n > 0.01).float().mean()) for c, n in zip(channels, places, strict=True)]
    return {
        "bits_per_dim": round(float(pixels.sum() + kl.sum()), 5),
        "pixels": [round(float(v), 5) for v in pixels],
        "kl": [round(float(v), 5) for v in kl],
        "active": [round(v, 3) for v in active],
    }


def measure_histories(network: Nvae, crops: NDArray[np.uint8]) -> dict[str, float]:
    """Bits/dim of held-out crops after each kind of history that is trained on, with the heads of the kind's expert."""
    recipe = network.recipe.training.histories
    changed = {} if recipe is None else with_histories(crops, recipe, network.recipe.stride)
    return {name: measure(network, own, expert=expert)["bits_per_dim"] for name, (expert, own) in changed.items()}


def mean_of_steps(sums: list[tuple[float, NDArray[np.float64]]]) -> dict[str, Any]:
    """Bits/dim of the steps since the last report, from (pixels, KL a group) each; None where all were skipped."""
    if not sums:
        return {"train_bits_per_dim": None, "train_kl": None}
    kl = np.mean([k for _, k in sums], axis=0)
    total = float(np.mean([p for p, _ in sums]) + kl.sum())
    return {"train_bits_per_dim": round(total, 5), "train_kl": [round(float(v), 5) for v in kl]}


def train(trainer: Trainer, data: Crops, held_out: NDArray[np.uint8], report: Callable[[dict[str, Any]], None]) -> None:
    """Run to the recipe's last step, the time budget, or a signal to end; report and save on the way and at the end.

    Of several processes the first measures, reports and writes; all end together.
    """
    options, recipe, processes = trainer.options, trainer.recipe, trainer.processes
    log = Log(trainer.run, trainer.step, recipe, tensorboard=options.tensorboard) if processes.first else None
    average = place(Nvae(recipe), trainer.device)
    begin = last = reported = saved = time.monotonic()
    sums: list[tuple[float, NDArray[np.float64]]] = []
    steps, valid, done = 0, None, trainer.step >= recipe.training.steps
    with stop_signals() as asked:
        while not done:
            bits = trainer.take_step(data)
            now = time.monotonic()
            trainer.seconds, last = trainer.seconds + now - last, now
            if not trainer.skipped_in_a_row:
                sums.append((float(bits.pixels.sum()), bits.kl.cpu().double().numpy()))
            steps += 1
            late = options.minutes is not None and now - begin > 60 * options.minutes
            done = trainer.step >= recipe.training.steps or processes.any(late or bool(asked))
            if log is None:
                continue
            if done or now - reported >= options.report_seconds:
                average.load_state_dict(trainer.average.state)
                valid = measure(average, held_out)
                if recipe.training.histories is not None:
                    valid["histories"] = measure_histories(average, held_out)
                peak = peak_memory(trainer.device)
                line = {
                    "step": trainer.step,
                    "seconds": round(trainer.seconds, 1),
                    "steps_per_second": round(steps / (now - reported), 2),
                    "learning_rate": learning_rate(recipe.training, trainer.step),
                    **mean_of_steps(sums),
                    "skipped": trainer.skipped,
                    "peak_memory_mib": peak and round(peak / 2**20),
                    "valid": valid,
                }
                log.write(line)
                report(line)
                reported, sums, steps = time.monotonic(), [], 0
            if done or now - saved >= options.save_seconds:
                trainer.save(valid=valid)
                saved = time.monotonic()
            last = time.monotonic()
    if log is not None:
        log.close()


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGINT become entries of a list, for the step to end first; a second one acts as ever."""
    asked: list[int] = []
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(kind) for kind in kinds]

    def restore() -> None:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)

    def note(kind: int, _frame: FrameType | None) -> None:
        asked.append(kind)
        restore()

    for kind in kinds:
        signal.signal(kind, note)
    try:
        yield asked
    finally:
        restore()
