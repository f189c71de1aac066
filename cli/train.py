"""nvae-codec train: a model from a recipe and images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvae_codec.errors import NvaeCodecError
from nvae_codec.runtime import DEVICES, Runtime

from .options import EXISTING, FiniteRange, choice_option, integer_option, reporting_options, threads_option, together
from .report import Reporter, print_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.recipes.recipe import Recipe
    from nvae_codec.training.data import Crops
    from nvae_codec.training.loop import Trainer

RUN = click.Path(path_type=Path)
HELD_OUT = 20
"""Every so many images are held out where no others are given."""


@dataclass(frozen=True)
class Sources:
    """Where images come from, to train on and to measure on, and the size of the latter's crops."""

    data: tuple[str, ...]
    valid: tuple[str, ...]
    valid_crop: int

    def open(self, recipe: Recipe) -> tuple[Crops, NDArray[np.uint8]]:
        """Training images and held-out crops, uint8 (N, C, H, W). Raises NvaeCodecError."""
        from nvae_codec.training.data import Crops, held_out_crops, pad_smaller
        from nvae_codec.training.sources import open_source

        channels, size = recipe.image.channels, self.valid_crop
        images = [load for source in self.data for load in open_source(source, channels)]
        if self.valid:
            held_out = [load for source in self.valid for load in open_source(source, channels)]
        elif len(images) > 1:
            held_out, images = images[::HELD_OUT], [load for at, load in enumerate(images) if at % HELD_OUT]
        else:
            raise NvaeCodecError(f"{self.data[0]}: one image cannot be both trained on and held out; give --valid")
        if recipe.network.top_size:  # a network for images of one size
            size = recipe.training.crop
            images, held_out = ([pad_smaller(load, size) for load in loads] for loads in (images, held_out))
        crops = held_out_crops(held_out, size, recipe.stride, recipe.image.padding)
        return Crops(images, recipe.training), crops


@dataclass(frozen=True)
class Start:
    """How a run begins: from random weights, from its checkpoint, or with weights of another run."""

    resume: bool
    other: Path | None
    prefix: str

    def check(self, run: Path) -> None:
        """Raise NvaeCodecError where options do not go together, or a run is there that would be overwritten."""
        from nvae_codec.training.checkpoint import FILE

        if self.resume and self.other is not None:
            raise NvaeCodecError("--resume and --weights-from do not go together")
        if self.prefix and self.other is None:
            raise NvaeCodecError("--weights needs --weights-from")
        if not self.resume and (run / FILE).exists():
            raise NvaeCodecError(f"{run}: a run is here already; --resume goes on with it")


source_options = together(
    "sources", Sources,
    click.option("--data", required=True, multiple=True, metavar="SOURCE",
                 help="What to train on: a folder of images, an .npz, .nvae, or idx file, or mnist, cifar10, celeba, "
                 "imagefolder:PATH. May be given more than once."),
    click.option("--valid", multiple=True, metavar="SOURCE",
                 help="What to measure on.  [default: every 20th image of --data, which is then not trained on]"),
    integer_option("--valid-crop", least=8, default=256, text="Size of the held-out crops."),
)  # fmt: skip
start_options = together(
    "start", Start,
    click.option("--resume", is_flag=True, help="Go on from RUN's checkpoint; [training] may have changed."),
    click.option("--weights-from", "other", type=EXISTING, metavar="RUN",
                 help="Start with the weights of another run that have the same names and shapes."),
    click.option("--weights", "prefix", default="", metavar="PREFIX",
                 help="Of those, the ones whose names begin so, as likelihood.heads.  [default: all]"),
)  # fmt: skip
loop_options = together(
    "loop", dict,
    click.option("--minutes", type=FiniteRange(0, min_open=True), metavar="M", help="Stop after M minutes, to resume."),
    choice_option("--device", DEVICES, text="Where to train."),
    click.option("--bf16", "precision", flag_value="bf16",
                 help="Networks in bfloat16; likelihood, and latents that begin as pixels, in float32."),
    click.option("--fp16", "precision", flag_value="fp16", help="In float16, with a scale of the loss that follows."),
    integer_option("--micro-batch", text="Less memory: N crops at once, gradients added up over the batch."),
    click.option("--compile", is_flag=True, help="torch.compile: minutes to begin, then faster steps."),
    click.option("--checkpointing", is_flag=True, help="Less memory: cells are computed again for the gradient."),
    click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard too, below RUN."),
    click.option("--report-seconds", type=FiniteRange(0), default=30.0, show_default=True, metavar="S",
                 help="Between progress lines."),
    click.option("--save-seconds", type=FiniteRange(0), default=300.0, show_default=True, metavar="S",
                 help="Between checkpoints."),
)  # fmt: skip


@click.command("train")
@click.argument("recipe")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a value, as network.flows=0.")
@source_options
@click.option("--out", "run", required=True, type=RUN, metavar="RUN", help="Folder of the recipe, checkpoint and log.")
@start_options
@integer_option("--steps", text="Steps of the whole run.  [default: the recipe's]")
@loop_options
@threads_option
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and the data, train nothing.")
@reporting_options
def train_command(
    recipe: str,
    changes: tuple[str, ...],
    sources: Sources,
    run: Path,
    start: Start,
    steps: int | None,
    loop: Mapping[str, Any],
    threads: int | None,
    dry_run: bool,
    report: Reporter,
) -> None:
    """Train the model of RECIPE, a name (see `models --recipes`) or a TOML file.

    In one process, or in several that `torchrun` starts: each takes a part of every batch, and the run is that of one
    process. Ctrl-C ends a run after the current step, with a checkpoint.
    """
    from nvae_codec.recipes.files import format_recipe, read_recipe
    from nvae_codec.training.loop import Options, Trainer

    described = read_recipe(recipe, [*changes, *([f"training.steps={steps}"] if steps else [])])
    if not dry_run:
        start.check(run)
    crops, held_out = sources.open(described)
    held = f"{held_out.shape[0]} crops of {held_out.shape[2]} pixels"
    note(f"data: {len(crops.loaders)} images, {crops.total_pixels / 1e6:.1f} megapixels; held out: {held}", report)
    if dry_run:
        click.echo(format_recipe(described), nl=False)
        return
    options = Options(**{**loop, "precision": loop["precision"] or "float32"})
    with Runtime(threads=threads).scope_threads():
        trainer = Trainer(described, run, options, resume=start.resume)
        if start.other is not None:
            note(f"weights: {trainer.start_from(start.other, start.prefix)} tensors of {start.other}", report)
        code = train_and_report(trainer, crops, held_out, report)
    click.get_current_context().exit(code)


def train_and_report(trainer: Trainer, crops: Crops, held_out: NDArray[np.uint8], report: Reporter) -> int:
    """Train with progress on the terminal; the exit code: 0, or 128 and the signal's number."""
    from nvae_codec.training.loop import train

    recipe, processes = trainer.recipe, trainer.processes
    count, steps = sum(parameter.numel() for parameter in trainer.network.parameters()), recipe.training.steps
    shared = f"; {processes.count} processes" if processes.count > 1 else ""
    where = f"{processes.device.type}; step {trainer.step} of {steps}{shared}"
    note(f"model: {recipe.name}, {count:,} parameters; {where}", report)
    if processes.count == 1 and any(name.startswith("ACCELERATE_") for name in os.environ):
        note("accelerate launch started one process only; torchrun --nproc-per-node N starts several", report)
    if trainer.step < steps:
        with report.progress(recipe.name, steps - trainer.step) as bar:
            signal = train(trainer, crops, held_out, print_progress(steps, report), lambda: bar.advance(1))
        if trainer.step < steps:
            note(f"{trainer.run}: stopped at step {trainer.step} of {steps}; --resume goes on with it", report)
        return 128 + signal if signal else 0
    note(f"{trainer.run}: at step {trainer.step} of {steps} already; --steps takes more", report)
    return 0


def note(text: str, report: Reporter) -> None:
    """A line on stderr, once for all processes of a run; -q suppresses it."""
    if os.environ.get("RANK", "0") == "0" and not report.quiet:
        print_line(text)


def print_progress(steps: int, report: Reporter) -> Callable[[dict[str, Any]], None]:
    """Print progress lines, and a warning whenever other groups of latents than before carry no information."""
    from nvae_codec.training.log import describe_dead_groups

    shown = ""

    def show(line: dict[str, Any]) -> None:
        nonlocal shown
        if not report.quiet:
            if sys.stderr.isatty():
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # the line replaces the progress bar
            click.echo(format_progress(line, steps))
        warning = describe_dead_groups(line["valid"]["active"])
        if warning and warning != shown:
            note(warning, report)
        shown = warning

    return show


def format_progress(line: dict[str, Any], steps: int) -> str:
    """One progress line."""
    valid, rate = line["valid"], line["steps_per_second"]
    left = (steps - line["step"]) / rate / 60 if rate else 0
    cells = [
        f"{line['seconds'] / 60:6.1f} min",
        f"step {line['step']} of {steps}",
        f"{rate:.2f}/s",
        f"{left:.0f} min left" if left >= 1 else f"{60 * left:.0f} s left",
        f"lr {line['learning_rate']:.2e}",
        "train skipped" if line["train_bits_per_dim"] is None else f"train {line['train_bits_per_dim']:.4f}",
        f"valid {valid['bits_per_dim']:.4f} bits/dim",
        "KL " + " ".join(f"{value:.4f}" for value in valid["kl"]),
        "active " + " ".join(f"{value:.2f}" for value in valid["active"]),
        f"memory {line['peak_memory_mib']} MiB",
        *([f"skipped {line['skipped']}"] if line["skipped"] else []),
    ]
    return "  ".join(cells)
