"""Compare the codec's speed with JPEG XL's, and adaptation's time with the coding it is added to.

    python -m tools.timing IMAGES... [--model NAME|PATH] [--threads N] [--repeat 5] [--json OUT]

CPU seconds of the codec alone, without starting Python and reading the PNG: the least of the repeats, which disturbs
other processes' load least, and is disturbed least by it. JPEG XL runs on one thread with effort 7. The first bars that
are printed are of one image, the last of a mosaic of all images, repeated to 12 megapixels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, cast

import imagecodecs
import numpy as np

from nvae_codec import load_model
from nvae_codec.adaptation import DEFAULT_EFFORT
from nvae_codec.coding.codec import Levels, ModelCodec
from nvae_codec.evaluation.machine import describe_machine
from nvae_codec.schedule.shape import Shape
from nvae_codec.training.sources import list_images, read_image

MOSAIC = 3000, 4000
"""Rows and columns of the large image: 12 megapixels."""


def cpu_seconds(work: Callable[[], object], repeat: int) -> float:
    """The least of several runs."""
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def measure_image(pixels: Levels, codec: ModelCodec, repeat: int) -> dict[str, float]:
    """CPU seconds of each way."""
    coded, shapes = codec.encode([pixels], effort=DEFAULT_EFFORT), [Shape.of(pixels)]
    other = imagecodecs.jpegxl_encode(pixels, lossless=True, effort=7, numthreads=1)
    ways: dict[str, Callable[[], object]] = {
        "jpegxl_encode": lambda: imagecodecs.jpegxl_encode(pixels, lossless=True, effort=7, numthreads=1),
        "jpegxl_decode": lambda: imagecodecs.jpegxl_decode(other, numthreads=1),
        "decode": lambda: codec.decode(shapes, coded),
    }
    return {way: cpu_seconds(work, repeat) for way, work in ways.items()} | measure_efforts(pixels, codec, repeat)


def measure_efforts(pixels: Levels, codec: ModelCodec, repeat: int) -> dict[str, float]:
    """CPU seconds of coding without adaptation and with the default effort."""
    efforts = (1, DEFAULT_EFFORT)
    return {f"encode_{e}": cpu_seconds(partial(codec.encode, [pixels], effort=e), repeat) for e in efforts}


def make_mosaic(images: list[Levels]) -> Levels:
    """The images from left to right and from top to bottom, again and again."""
    height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
    tiles = [image[:height, :width] for image in images]
    rows, columns = -(-MOSAIC[0] // height), -(-MOSAIC[1] // width)
    bands = [
        np.concatenate([tiles[(row * columns + column) % len(tiles)] for column in range(columns)], 1)
        for row in range(rows)
    ]
    return np.ascontiguousarray(np.concatenate(bands)[: MOSAIC[0], : MOSAIC[1]])


def list_bars(rows: list[dict[str, Any]], large: dict[str, float]) -> dict[str, float]:
    """Ratios of mean CPU seconds; of speeds, where JPEG XL is named."""
    default = f"encode_{DEFAULT_EFFORT}"
    means = {way: mean(row["cpu_seconds"][way] for row in rows) for way in rows[0]["cpu_seconds"]}
    return {
        "time: default effort / effort 1": means[default] / means["encode_1"],
        "time: default effort / effort 1, 12 megapixels": large[default] / large["encode_1"],
        "speed: decoding / JPEG XL's": means["jpegxl_decode"] / means["decode"],
        "speed: effort 1 / JPEG XL's": means["jpegxl_encode"] / means["encode_1"],
        "speed: default effort / JPEG XL's": means["jpegxl_encode"] / means[default],
    }


def main() -> None:
    """Time the images of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    codec = cast(ModelCodec, load_model(given.model, threads=given.threads))
    files = [file for image in given.images for file in list_images(image)]
    images = [np.ascontiguousarray(read_image(file)) for file in files]
    rows = [
        {"name": file.name, "pixels": Shape.of(image).pixels, "cpu_seconds": measure_image(image, codec, given.repeat)}
        for file, image in zip(files, images, strict=True)
    ]
    large = measure_efforts(make_mosaic(images), codec, 1)
    bars = list_bars(rows, large)
    result = {
        "model": codec.name, "threads": given.threads, "machine": describe_machine(), "bars": bars,
        "images": rows, "mosaic": large,
    }  # fmt: skip
    for name, ratio in bars.items():
        print(f"{ratio:6.2f}  {name}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
