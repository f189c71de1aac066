"""The training loop: from a recipe and images to a checkpoint that resumes exactly.

The crops and the noise of a step depend only on the seed and the step's number. So a resumed run takes the same steps
as one that was never stopped, and several processes, with a part of every batch each, take the steps of a single
process.
"""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
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
from nvae_codec.training.data import Crops, Prefetcher, StepCrops, draw_step
from nvae_codec.training.log import Log
from nvae_codec.training.measure import measure, measure_histories
from nvae_codec.training.memory import checkpoint_cells, keep_statistics, peak_memory
from nvae_codec.training.objective import BitsPerDim, balance_weights, kl_weight, learning_rate, mean_kl, weigh
from nvae_codec.training.optimizers import make_optimizer
from nvae_codec.training.precision import AUTOCAST, FIRST_LOSS_SCALE, keep_latents_precise
from nvae_codec.training.processes import Processes
from nvae_codec.training.regularization import SpectralNorms, scale_total, spectral_weight

PERSISTENT = 100
"""Steps in a row without a finite gradient that end the run with an error."""


@dataclass(frozen=True)
class Options:
    """How a run is carried out; of these only the precision changes what is learned.

    precision: float32, bf16 or fp16 of the networks; likelihoods are always float32. micro_batch: crops that a process
    evaluates at once, whose gradients are added up; None: all. report_seconds, save_seconds: between
    reports and between checkpoints.
    """

    device: str = "cpu"
    precision: str = "float32"
    micro_batch: int | None = None
    compile: bool = False
    checkpointing: bool = False
    minutes: float | None = None
    report_seconds: float = 30.0
    save_seconds: float = 300.0
    tensorboard: bool = False


class Trainer:
    """One run: network, average, optimizer, and the folder that they are saved in."""

    def __init__(self, recipe: Recipe, run: Path, options: Options, *, resume: bool) -> None:
        """Start a run, or continue from the folder's checkpoint. Raises NvaeCodecError."""
        self.recipe, self.run, self.options = recipe, run, options
        self.processes = Processes(options.device)
        self.device, self.rows = self.processes.device, self.processes.rows(recipe.training.batch)
        self.passes = count_passes(self.rows.stop - self.rows.start, options.micro_batch)
        self._feed: tuple[Crops, Prefetcher] | None = None
        self.autocast = AUTOCAST[options.precision]
        torch.manual_seed(recipe.training.seed)
        self.network = place(Nvae(recipe), self.device)
        if recipe.training.experts_alone:
            self.network.requires_grad_(False)
            self.network.likelihood.experts.requires_grad_(True)
        self.step, self.seconds, self.skipped, self.skipped_in_a_row = 0, 0.0, 0, 0
        self.average = Average(self.network, recipe.training.ema)
        self.optimizer = make_optimizer(recipe.training, self.network.parameters())
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
        # a compacted checkpoint may have only the average
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
        """Before the first step, take the weights of another run that fit; returns how many tensors.

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
        crops = self._draw(data)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(training, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        bits = self._average(self._backward(crops))
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
            self._restore_statistics()
        self.scaler.update()
        self.step += 1
        return bits

    def _draw(self, data: Crops) -> StepCrops:
        if self._feed is None or self._feed[0] is not data:
            training = self.recipe.training
            self._feed = data, Prefetcher(partial(draw_step, data, training, self.rows), training.steps)
        return self._feed[1].take(self.step)

    def _backward(self, crops: StepCrops) -> BitsPerDim:
        """Add the gradients of the crops, pass by pass; their bits/dim."""
        training = self.recipe.training
        weight = kl_weight(training, self.step / training.steps)
        alpha = self.alpha if weight < 1 else None
        parts = torch.from_numpy(crops.pixels).to(self.device).chunk(self.passes)
        # balancing weighs groups by the KL of the whole batch, which several passes do not know before the last
        batch_kl = self._measure_kl(parts, crops) if alpha is not None and self.passes > 1 else None
        done: list[BitsPerDim] = []
        for index, pixels in enumerate(parts):
            elbo = self._evaluate(pixels, index, crops)
            if alpha is not None and self.passes == 1:
                batch_kl = self.processes.mean(mean_kl(elbo))
            bits = weigh(elbo, weight, alpha, crops.pixels.size, batch_kl)
            loss = self._loss(bits, weight, pixels[0].numel(), regularized=index == 0)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            done.append(BitsPerDim(bits.loss.detach(), bits.pixels.detach(), bits.kl.detach()))
        return BitsPerDim(
            *(torch.stack([getattr(bits, part) for bits in done]).sum(0) for part in ("loss", "pixels", "kl"))
        )

    @torch.no_grad()
    def _measure_kl(self, parts: Sequence[Tensor], crops: StepCrops) -> Tensor:
        """The mean KL of each group over the whole batch, of all passes and processes."""
        with keep_statistics(self.network):
            found = [mean_kl(self._evaluate(pixels, index, crops)) for index, pixels in enumerate(parts)]
        return self.processes.mean(torch.stack(found).mean(0))

    def _evaluate(self, pixels: Tensor, index: int, crops: StepCrops) -> Elbo:
        """The ELBO of a pass, with its part of the noise that one pass over the whole batch would draw."""
        torch.manual_seed(crops.seed)
        self.network.noise = Noise(self.passes * self.processes.index + index, self.passes * self.processes.count)
        base_only = self.step / self.recipe.training.steps < self.recipe.training.base_first_fraction
        return self._elbo(pixels, base_only, crops.expert)

    def _average(self, bits: BitsPerDim) -> BitsPerDim:
        """Average gradients, batch norm's statistics and the bits over the processes, so that all stay the same."""
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        statistics = [value for value in self.network.buffers() if value.is_floating_point()]
        self.processes.average([*gradients, *statistics, bits.loss, bits.pixels, bits.kl])
        return bits

    def _loss(self, bits: BitsPerDim, weight: float, dims: int, *, regularized: bool) -> Tensor:
        """The loss in the recipe's unit, with the regularization, whose weight is meant for nats per image.

        weight: the KL's, with which that of the regularization changes. dims: colour values of an image.
        """
        training, nats = self.recipe.training, math.log(2) * dims
        loss = bits.loss * nats if training.loss_unit == "nats" else bits.loss
        if self.spectral is not None and regularized:
            total = spectral_weight(training, weight) * (self.spectral.total() + scale_total(self.network))
            loss = loss + (total if training.loss_unit == "nats" else total / nats)
        return loss

    def _restore_statistics(self) -> None:
        """Give batch normalization its averaged statistics back where a skipped step made its own infinite."""
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


def count_passes(crops: int, micro_batch: int | None) -> int:
    """Passes over a process's crops of a step. Raises NvaeCodecError where they have no equal parts."""
    if micro_batch is not None and crops % micro_batch:
        raise NvaeCodecError(f"{crops} crops per step and process are not a multiple of --micro-batch {micro_batch}")
    return crops // (micro_batch or crops)


def place(network: Nvae, device: torch.device) -> Nvae:
    """The network on a device, in the layout that its convolutions prefer."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def train(
    trainer: Trainer,
    data: Crops,
    held_out: NDArray[np.uint8],
    report: Callable[[dict[str, Any]], None],
    on_step: Callable[[], None] = lambda: None,
) -> int:
    """Run to the recipe's last step, the time budget, or a signal to end; report and save on the way and at the end.

    Of several processes the first one measures, reports and writes; all end together. Returns the number of the signal,
    or 0.
    """
    options, recipe, processes = trainer.options, trainer.recipe, trainer.processes
    log = Log(trainer.run, trainer.step, recipe, tensorboard=options.tensorboard) if processes.first else None
    average = place(Nvae(recipe), trainer.device)
    begin = last = reported = saved = time.monotonic()
    taken: list[BitsPerDim | None] = []
    valid, done = None, trainer.step >= recipe.training.steps
    with stop_signals() as asked:
        while not done:
            bits = trainer.take_step(data)
            taken.append(None if trainer.skipped_in_a_row else bits)
            now = time.monotonic()
            trainer.seconds, last = trainer.seconds + now - last, now
            late = options.minutes is not None and now - begin > 60 * options.minutes
            done = trainer.step >= recipe.training.steps or processes.any(late or bool(asked))
            on_step()
            if log is None:
                continue
            if done or now - reported >= options.report_seconds:
                average.load_state_dict(trainer.average.state)
                valid = measure(average, held_out)
                if recipe.training.histories is not None:
                    valid["histories"] = measure_histories(average, held_out)
                line = describe_steps(trainer, taken, now - reported) | {"valid": valid}
                log.write(line)
                report(line)
                reported, taken = time.monotonic(), []
            if done or now - saved >= options.save_seconds:
                trainer.save(valid=valid)
                saved = time.monotonic()
            last = time.monotonic()
    if log is not None:
        log.close()
    return asked[0] if asked else 0


def describe_steps(trainer: Trainer, taken: Sequence[BitsPerDim | None], seconds: float) -> dict[str, Any]:
    """The entries of the log about the steps since the last report; None in ``taken`` is a skipped step."""
    kept = [bits for bits in taken if bits is not None]
    total = kl = None
    if kept:
        kl = torch.stack([bits.kl for bits in kept]).double().mean(0)
        total = round(float(kl.sum()) + float(torch.stack([bits.pixels.sum() for bits in kept]).double().mean()), 5)
    peak = peak_memory(trainer.device)
    return {
        "step": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "steps_per_second": round(len(taken) / seconds, 2),
        "learning_rate": learning_rate(trainer.recipe.training, trainer.step),
        "train_bits_per_dim": total,
        "train_kl": None if kl is None else [round(float(v), 5) for v in kl],
        "skipped": trainer.skipped,
        "peak_memory_mib": peak and round(peak / 2**20),
    }


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGINT become entries of a list, so that the step ends first; a second signal acts as usual."""
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
