"""nvae-codec freeze: from a training run to the exact network that files are made with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nvae_codec.exact.freeze import Frozen
    from nvae_codec.network.nvae import Nvae


@click.command("freeze")
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "output", required=True, type=click.Path(path_type=Path), metavar="MODEL.safetensors")
@click.option(
    "--calibrate",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER",
    help="Images that show the range of every value; training images will do.",
)
@click.option(
    "--valid",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER",
    help="Held-out images for the report.  [default: those of --calibrate]",
)
@click.option("--images", type=click.IntRange(1), default=32, show_default=True, help="Of each folder, at most.")
@click.option(
    "--crop", type=click.IntRange(16), default=256, show_default=True, metavar="N", help="Side of their crops."
)
@click.option("--name", metavar="NAME", help="Name of the model.  [default: the recipe's]")
@click.option(
    "--report", "report_file", type=click.Path(path_type=Path), metavar="JSON", help="Write the report there."
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the model.")
def freeze_command(
    run: Path,
    output: Path,
    calibrate: Path,
    valid: Path | None,
    images: int,
    crop: int,
    name: str | None,
    report_file: Path | None,
    force: bool,
) -> None:
    """Freeze the moving average of RUN's weights into exact whole-number layers."""
    import dataclasses
    import json

    import torch

    from nvae_codec.errors import NvaeCodecError
    from nvae_codec.exact.freeze import freeze
    from nvae_codec.exact.model_file import save_model
    from nvae_codec.recipe import format_recipe
    from nvae_codec.training.checkpoint import load_average
    from nvae_codec.training.data import held_out_crops, list_images

    if output.exists() and not force:
        raise NvaeCodecError(f"{output}: exists already; -f overwrites it")
    recipe, network, done = load_average(run)
    if name is not None:
        recipe = dataclasses.replace(recipe, name=name)
        network.recipe = recipe
    crops = held_out_crops(spread(list_images(calibrate), images), crop, recipe.stride)
    frozen = freeze(network, [torch.from_numpy(crops[at : at + 4]) for at in range(0, len(crops), 4)])
    held_out = held_out_crops(spread(list_images(valid or calibrate), images), crop, recipe.stride)
    report = {"steps": done["step"], "seconds": done["seconds"], **describe(frozen, network, held_out)}
    save_model(frozen.model, output, format_recipe(recipe), report)
    if report_file is not None:
        report_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_report(report)


def spread(files: list[Path], count: int) -> list[Path]:
    """At most ``count`` files, evenly from all."""
    return files[:: max(1, -(-len(files) // count))]


def describe(frozen: Frozen, network: Nvae, crops: Any) -> dict[str, Any]:
    """Float and exact ELBO on held-out crops (N, 3, H, W), latents kept, layers in float64."""
    import numpy as np

    from nvae_codec.evaluation import exact_elbo, float_elbo

    exact, real = [], []
    for crop in crops:
        pixels = np.ascontiguousarray(crop.transpose(1, 2, 0))
        exact.append(exact_elbo(pixels, frozen.model).bits_per_dim)
        real.append(float_elbo(pixels, network).bits_per_dim)
    groups = [{"stride": g.stride, "channels": g.channels, "kept": list(g.kept)} for g in frozen.model.groups]
    layers = frozen.layers
    return {
        "name": frozen.model.name,
        "identity": frozen.model.identity.hex(),
        "crops": len(exact),
        "float_bits_per_dim": float(np.mean(real)),
        "exact_bits_per_dim": float(np.mean(exact)),
        "exact_over_float": float(np.mean(exact) / np.mean(real)),
        "latents": groups,
        "layers": len(layers),
        "layers_in_float64": [layer.source for layer in layers if layer.double],
        "largest_accumulator_bits": max([0, *(layer.accumulator for layer in layers if not layer.double)]).bit_length(),
    }


def print_report(report: dict[str, Any]) -> None:
    """The report as lines."""
    click.echo(f"model      {report['name']} ({report['identity'][:8]})")
    click.echo(f"float ELBO {report['float_bits_per_dim']:.4f} bits/dim over {report['crops']} crops")
    click.echo(
        f"exact ELBO {report['exact_bits_per_dim']:.4f} bits/dim, {report['exact_over_float']:.5f} of the float one"
    )
    for index, group in enumerate(report["latents"]):
        click.echo(f"group {index}    1/{group['stride']}: {len(group['kept'])} of {group['channels']} channels kept")
    doubles = ", ".join(report["layers_in_float64"]) or "none"
    click.echo(f"layers     {report['layers']}, in float64: {doubles}")
