"""nvae-codec freeze: from a training run to the integer model that files are made with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nvae_codec.files import check_absent, write_atomic
from nvae_codec.runtime import Runtime

from .files import check_outputs, find_all_inputs
from .options import EXISTING, OUTPUT_FILE, integer_option, network_options, reporter_options
from .report import Bar, Reporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.coding.codec import ModelCodec
    from nvae_codec.export.export import Exported
    from nvae_codec.network.nvae import Nvae
    from nvae_codec.recipes.recipe import Recipe

Item = TypeVar("Item")


@click.command("freeze")
@click.argument("run", type=EXISTING)
@click.option("-o", "output", required=True, type=OUTPUT_FILE, metavar="MODEL.safetensors", help="The model file.")
@click.option(
    "--calibrate",
    required=True,
    type=EXISTING,
    metavar="PATH",
    help="Images that show the range of every value: a folder or an .npz file. Training images will do.",
)
@click.option(
    "--valid",
    type=EXISTING,
    metavar="PATH",
    help="Held-out images for the report, of at most 200 crops.  [default: those of --calibrate]",
)
@integer_option("--images", default=32, text="Largest number of images of each.")
@integer_option("--crop", least=16, default=256, text="Side of the crops of these images.")
@click.option("--name", metavar="NAME", help="Name of the model.  [default: the recipe's]")
@click.option("--report", "report_file", type=OUTPUT_FILE, metavar="JSON", help="Write the report there.")
@network_options
@click.option("-f", "--force", is_flag=True, help="Overwrite the model.")
@reporter_options
def freeze_command(
    run: Path,
    output: Path,
    calibrate: Path,
    valid: Path | None,
    images: int,
    crop: int,
    name: str | None,
    report_file: Path | None,
    runtime: Runtime,
    force: bool,
    reporter: Reporter,
) -> None:
    """Export the moving average of RUN's weights to an integer model."""
    import dataclasses
    import json

    import torch

    from nvae_codec.export.export import export
    from nvae_codec.integer.model_file import pack_model
    from nvae_codec.recipes.files import format_recipe
    from nvae_codec.training.checkpoint import load_average
    from nvae_codec.training.histories import with_histories
    from nvae_codec.zoo.load import prepare_codec

    click.get_current_context().with_resource(runtime.scope_threads())
    check_absent(output, force=force)
    inputs = find_all_inputs((run, calibrate, valid))
    check_outputs((output, report_file), inputs)
    recipe, network, done = load_average(run)
    if name is not None:
        recipe = dataclasses.replace(recipe, name=name)
        network.recipe = recipe
    crops = read_crops(calibrate, recipe, images, crop)
    shown = [(0, crops)]
    if recipe.training.histories is not None:  # experts must see the range of their own images
        shown += with_histories(crops, recipe.training.histories, recipe.stride).values()
    batches = [torch.from_numpy(part[at : at + 4]) for _, part in shown for at in range(0, len(part), 4)]
    exported = make_adaptable(export(network, batches), shown)
    held_out = show_network(read_crops(valid or calibrate, recipe, min(images, MOST_MEASURED), crop), recipe)
    codec = prepare_codec(exported.model, runtime)
    with reporter.progress(f"{len(held_out)} crops", len(held_out)) as bar:
        bounds = [measure_bounds(codec, network, crop) for crop in watch(held_out, bar)]
    report = {"steps": done["step"], "seconds": done["seconds"], **describe(exported, bounds)}
    write_atomic(output, pack_model(exported.model, format_recipe(recipe), report), force=force, inputs=inputs)
    if report_file is not None:
        write_atomic(report_file, (json.dumps(report, indent=1) + "\n").encode(), force=True, inputs=inputs)
    if not reporter.quiet:
        print_report(report)


def make_adaptable(exported: Exported, shown: Sequence[tuple[int, NDArray[np.uint8]]]) -> Exported:
    """Let files adapt the model. ``shown``: experts, and crops (N, C, H, W) that each of them is for."""
    import dataclasses

    from nvae_codec.adaptation.directions import learn_directions
    from nvae_codec.integer.model_file import finalize

    if exported.model.likelihood != "colourwise":
        return exported
    images: list[list[NDArray[np.uint8]]] = []
    for expert in range(exported.model.experts):
        own = [crops for whose, crops in shown if whose == expert] or [shown[0][1]]
        images.append([crop.transpose(1, 2, 0) for crops in own for crop in crops])
    return dataclasses.replace(exported, model=finalize(learn_directions(exported.model, images)))


MOST_MEASURED = 200
"""Crops of which the report has the bounds."""


def read_crops(path: Path, recipe: Recipe, count: int, side: int) -> NDArray[np.uint8]:
    """The middles of at most ``count`` images of a file or folder, uint8 (N, C, side, side)."""
    from nvae_codec.training.data import held_out_crops
    from nvae_codec.training.sources import open_source

    images = spread(open_source(path, recipe.image.channels), count)
    return held_out_crops(images, side, recipe.stride, recipe.image.padding)


def show_network(crops: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    """The values that the network sees of crops from 0 to 255: 0 and 1, or fewer bits; draws are of PCG64(0)."""
    import numpy as np

    if recipe.is_binary:
        return (np.random.Generator(np.random.PCG64(0)).random(crops.shape) < crops / 255).astype(np.uint8)
    return crops >> np.uint8(8 - recipe.image.bits)


def spread(items: Sequence[Item], count: int) -> Sequence[Item]:
    """At most ``count`` of the items, evenly from all."""
    return items[:: max(1, -(-len(items) // count))]


def watch(crops: NDArray[np.uint8], bar: Bar) -> Iterator[NDArray[np.uint8]]:
    """The crops one by one; the bar moves as the next is asked for."""
    for crop in crops:
        yield crop
        bar.advance(1)


def measure_bounds(codec: ModelCodec, network: Nvae, crop: NDArray[np.uint8]) -> tuple[float, float]:
    """Integer-model and float ELBO of a crop, uint8 (C, H, W), in bits/dim."""
    import numpy as np

    from nvae_codec.evaluation import float_elbo, integer_elbo

    pixels = np.ascontiguousarray(crop.transpose(1, 2, 0) if len(crop) > 1 else crop[0])
    return integer_elbo(pixels, codec).bits_per_dim, float_elbo(pixels, network).bits_per_dim


def describe(exported: Exported, bounds: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Means of the bounds of held-out crops, active latents, and how weights are split."""
    import numpy as np

    integer, real = np.mean(bounds, axis=0).tolist()
    groups = [{"stride": g.stride, "channels": g.channels, "active": list(g.active)} for g in exported.model.groups]
    layers = exported.layers
    return {
        "name": exported.model.name,
        "identity": exported.model.identity.hex(),
        "crops": len(bounds),
        "bpd_float_elbo": real,
        "bpd_integer_elbo": integer,
        "integer_over_float": integer / real,
        "latents": groups,
        "layers": len(layers),
        "split_layers": {layer.source: layer.digits for layer in layers if layer.digits > 1},
        "largest_sum_bits": max([0, *(layer.largest_sum for layer in layers)]).bit_length(),
    }


def print_report(report: dict[str, Any]) -> None:
    """The report as lines."""
    from nvae_codec.training.log import describe_dead_groups

    click.echo(f"model      {report['name']} ({report['identity'][:8]})")
    click.echo(f"float ELBO {report['bpd_float_elbo']:.4f} bits/dim over {report['crops']} crops")
    click.echo(
        f"integer ELBO {report['bpd_integer_elbo']:.4f} bits/dim, {report['integer_over_float']:.5f} of the float one"
    )
    for index, group in enumerate(report["latents"]):
        click.echo(
            f"group {index}    1/{group['stride']}: {len(group['active'])} of {group['channels']} channels active"
        )
    if warning := describe_dead_groups([len(group["active"]) / group["channels"] for group in report["latents"]]):
        click.echo(warning, err=True)
    split = report["split_layers"]
    click.echo(f"layers     {report['layers']}, with weights split into digits: {len(split)}")
