"""nvae-codec train: a model from a recipe and a folder of images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nvae_codec.errors import NvaeCodecError
from nvae_codec.runtime import DEVICES

from .options import FiniteRange


@click.command("train")
@click.argument("recipe")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a value, as network.flows=0.")
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="SOURCE",
    help="What to train on: a folder of images, .npz, .nvae, or idx file, or mnist, cifar10, celeba, imagefolder:PATH. "
    "May be given more than once.",
)
@click.option(
    "--valid",
    multiple=True,
    metavar="SOURCE",
    help="What to measure on.  [default: every 20th image of --data, which is then not trained on]",
)
@click.option(
    "--out",
    "run",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Folder of the checkpoint, the recipe and the log.",
)
@click.option("--resume", is_flag=True, help="Go on from RUN's checkpoint; [training] may have changed.")
@click.option(
    "--weights-from",
    "other",
    type=click.Path(exists=True, path_type=Path),
    metavar="RUN",
    help="Start with the weights of another run that have the same names and shapes.",
)
@click.option(
    "--weights",
    "prefix",
    default="",
    metavar="PREFIX",
    help="Of those, the ones whose names begin so, as likelihood.heads.  [default: all]",
)
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Steps of the whole run.  [default: the recipe's]")
@click.option("--minutes", type=FiniteRange(0, min_open=True), metavar="M", help="Stop after so long, to resume later.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: torch's]")
@click.option(
    "--bf16",
    "precision",
    flag_value="bf16",
    help="Networks in bfloat16; likelihood, and latents that begin as pixels, in float32.",
)
@click.option("--fp16", "precision", flag_value="fp16", help="In float16, with a scale of the loss that follows.")
@click.option("--compile", "compiled", is_flag=True, help="torch.compile: minutes to begin, then faster steps.")
@click.option("--checkpointing", is_flag=True, help="Less memory: cells are computed again for the gradient.")
@click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard too, below RUN.")
@click.option(
    "--valid-crop",
    type=click.IntRange(8),
    default=256,
    show_default=True,
    metavar="N",
    help="Side of the held-out crops.",
)
@click.option(
    "--report-seconds",
    type=FiniteRange(0),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Between progress lines.",
)
@click.option(
    "--save-seconds", type=FiniteRange(0), default=300.0, show_default=True, metavar="S", help="Between checkpoints."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and the data, train nothing.")
def train_command(
    recipe: str,
    changes: tuple[str, ...],
    data: tuple[str, ...],
    valid: tuple[str, ...],
    run: Path,
    resume: bool,
    other: Path | None,
    prefix: str,
    steps: int | None,
    minutes: float | None,
    device: str,
    threads: int | None,
    precision: str | None,
    compiled: bool,
    checkpointing: bool,
    tensorboard: bool,
    valid_crop: int,
    report_seconds: float,
    save_seconds: float,
    dry_run: bool,
) -> None:
    """Train the model that RECIPE, a name or a TOML file, describes.

    In one process, or in several that `accelerate launch` or `torchrun` starts: each takes a part of every batch, and
    the run is that of one process.
    """
    import torch

    from nvae_codec.recipes.files import format_recipe, read_recipe
    from nvae_codec.training.data import Crops, held_out_crops, pad_smaller
    from nvae_codec.training.loop import Options, Trainer, train
    from nvae_codec.training.sources import open_source

    described = read_recipe(recipe, changes)
    if steps is not None:
        described = dataclasses.replace(described, training=dataclasses.replace(described.training, steps=steps))
    if resume and other is not None:
        raise NvaeCodecError("--resume and --weights-from do not go together")
    if prefix and other is None:
        raise NvaeCodecError("--weights needs --weights-from")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    channels = described.image.channels
    images = [load for source in data for load in open_source(source, channels)]
    if valid:
        held_out_images = [load for source in valid for load in open_source(source, channels)]
    elif len(images) > 1:
        held_out_images, images = images[::20], [load for at, load in enumerate(images) if at % 20]
    else:
        raise NvaeCodecError(f"{data[0]}: one image cannot be both trained on and held out; give --valid")
    if described.network.top_size:  # a network for images of one size
        valid_crop = described.training.crop
        images, held_out_images = (
            [pad_smaller(load, valid_crop) for load in loads] for loads in (images, held_out_images)
        )
    held_out = held_out_crops(held_out_images, valid_crop, described.stride, described.image.padding)
    crops = Crops(images, described.training)
    note(
        f"data: {len(crops.loaders)} images, {crops.total_pixels / 1e6:.1f} megapixels; "
        f"held out: {held_out.shape[0]} crops of {held_out.shape[2]} pixels; {device}"
    )
    if dry_run:
        click.echo(format_recipe(described), nl=False)
        return
    if not resume and (run / "checkpoint.safetensors").exists():
        raise NvaeCodecError(f"{run}: a run is here already; --resume goes on with it")
    options = Options(
        device=device,
        precision=precision or "",
        compile=compiled,
        checkpointing=checkpointing,
        minutes=minutes,
        report_seconds=report_seconds,
        save_seconds=save_seconds,
        tensorboard=tensorboard,
    )
    trainer = Trainer(described, run, options, resume=resume)
    if other is not None:
        note(f"weights: {trainer.start_from(other, prefix)} tensors of {other}")
    if threads is not None:  # after accelerate, which sets another number
        torch.set_num_threads(threads)
    count = sum(parameter.numel() for parameter in trainer.network.parameters())
    shared = f"; {trainer.processes.count} processes" if trainer.processes.count > 1 else ""
    note(f"model: {described.name}, {count:,} parameters; step {trainer.step} of {described.training.steps}{shared}")
    train(trainer, crops, held_out, print_progress())


def note(text: str) -> None:
    """Tell on stderr, once for all processes of a run."""
    if os.environ.get("RANK", "0") == "0":
        click.echo(text, err=True)


def print_progress() -> Callable[[dict[str, Any]], None]:
    """Print progress lines, and a warning whenever other groups of latents than before carry nothing."""
    from nvae_codec.training.log import describe_dead_groups

    told = ""

    def report(line: dict[str, Any]) -> None:
        nonlocal told
        print_line(line)
        warning = describe_dead_groups(line["valid"]["active"])
        if warning and warning != told:
            note(warning)
        told = warning

    return report


def print_line(line: dict[str, Any]) -> None:
    """One progress line."""
    valid = line["valid"]
    cells = [
        f"{line['seconds'] / 60:6.1f} min",
        f"step {line['step']}",
        f"{line['steps_per_second']:.2f}/s",
        f"lr {line['learning_rate']:.2e}",
        "train skipped" if line["train_bits_per_dim"] is None else f"train {line['train_bits_per_dim']:.4f}",
        f"valid {valid['bits_per_dim']:.4f} bits/dim",
        "KL " + " ".join(f"{value:.4f}" for value in valid["kl"]),
        "active " + " ".join(f"{value:.2f}" for value in valid["active"]),
    ]
    if line["peak_memory_mib"] is not None:
        cells.append(f"memory {line['peak_memory_mib']} MiB")
    if line["skipped"]:
        cells.append(f"skipped {line['skipped']}")
    click.echo("  ".join(cells))
