"""Rates of images: the whole file against the integer-model and the float ELBO.

    python -m tools.rates IMAGES... [--model NAME|PATH] [--run RUN] [--samples 4] [--effort 1] [--json OUT]

A folder stands for the images in it. With ``--run`` the float ELBO of that training run's network is taken too.
"""

import argparse
import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from nvae_codec import compress, load_model
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation.elbo import float_elbo, integer_elbo
from nvae_codec.evaluation.machine import describe_machine
from nvae_codec.network.nvae import Nvae
from nvae_codec.training.checkpoint import load_average
from nvae_codec.training.sources import list_images, read_image


def measure_image(path: Path, codec: ModelCodec, network: Nvae | None, samples: int, effort: int) -> dict[str, Any]:
    """Bits/dim of one image."""
    pixels = np.ascontiguousarray(read_image(path))
    bits = 8 * len(compress(pixels, model=codec, method="model", effort=effort))
    elbo = integer_elbo(pixels, codec, samples=samples)
    row: dict[str, Any] = {
        "name": path.name,
        "bpd_file": bits / pixels.size,
        "bpd_integer_elbo": elbo.bits_per_dim,
        "file_over_integer": bits / elbo.bits,
        "bpd_kl": [kl / pixels.size for kl in elbo.kl],
        "bpd_phases": [phase / pixels.size for phase in elbo.pixels],
    }
    if network is not None:
        real = float_elbo(pixels, network, samples=samples)
        row |= {"bpd_float_elbo": real.bits_per_dim, "integer_over_float": elbo.bits / real.bits}
    return row


def main() -> None:
    """Measure the images of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument(
        "--effort", type=int, default=1, help="of the files; the bounds are those of the model as it is"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    codec = cast(ModelCodec, load_model(given.model))
    network = load_average(given.run)[1] if given.run else None
    rows = []
    for path in (file for image in given.images for file in list_images(image)):
        rows.append(measure_image(path, codec, network, given.samples, given.effort))
        print(" ".join(f"{v:.5f}" if isinstance(v, float) else v for v in rows[-1].values() if not isinstance(v, list)))
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    mean = {name: float(np.mean([row[name] for row in rows])) for name in names}
    largest = {name: float(np.max([row[name] for row in rows])) for name in names}
    print("mean", json.dumps(mean), "\nlargest", json.dumps(largest))
    if given.json:
        result = {
            "model": codec.name,
            "identity": codec.identity.hex(),
            "samples": given.samples,
            "machine": describe_machine(),
            "mean": mean,
            "largest": largest,
            "images": rows,
        }
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
