"""Where the time of compressing and decompressing goes: network, tables, stack.

    python -m tools.timing IMAGES... [--model NAME|PATH] [--threads N] [--repeat 5] [--json OUT]

Times are of the codec alone, without starting Python and reading the PNG; medians over the repeats.
"""

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from nvae_codec import load_model
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation.machine import describe_machine
from nvae_codec.schedule.shape import Shape
from nvae_codec.training.sources import list_images, read_image


def profile(work: Callable[[], object]) -> dict[str, float]:
    """Shares of the time of one run: network, stack, and tables, which is all array arithmetic that remains."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    network = sum(all_of for (file, _, name), (_, _, _, all_of, _) in stats.items()
                  if file.endswith("integer/graph.py") and name == "take")  # fmt: skip
    stack = sum(own for (_, _, name), (_, _, own, _, _) in stats.items() if "AnsCoder" in name)
    return {"network": network / total, "stack": stack / total, "tables": 1 - (network + stack) / total}


def measure_image(path: Path, codec: ModelCodec, repeat: int) -> dict[str, Any]:
    """Megapixels a second both ways, and where the time goes."""
    pixels = np.ascontiguousarray(read_image(path))
    height, width = pixels.shape[:2]
    shapes, coded = [Shape.of(pixels)], codec.encode([pixels])
    row: dict[str, Any] = {"name": path.name, "megapixels": height * width / 1e6}
    ways: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.encode([pixels]),
        "decode": lambda: codec.decode(shapes, coded),
    }
    for name, work in ways.items():
        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        row[name] = {"megapixels_per_second": row["megapixels"] / median(seconds), "share": profile(work)}
    return row


def main() -> None:
    """Time the images of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    codec = cast(ModelCodec, load_model(given.model, threads=given.threads))
    files = [file for image in given.images for file in list_images(image)]
    rows = [measure_image(file, codec, given.repeat) for file in files]
    result = {"model": codec.name, "threads": given.threads, "machine": describe_machine(), "images": rows}
    print(json.dumps(rows, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
