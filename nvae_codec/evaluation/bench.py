"""Codecs on the same images in the same run: size, speed both ways, peak memory. Each has a process of its own.

    python -m nvae_codec.evaluation.bench CODEC OPTIONS INPUT...    (what ``nvae-codec bench`` starts)

Keys of the JSON: format, machine, load, threads, images, dims, megapixels, codecs[] with
    name, library (null: not installed, and then nothing more)
    bits, bpd           whole files, metadata left out, by the dims of all images: W·H·3, of gray W·H
    mean_bpd            mean of the images' own rates
    encode_mp_per_second, decode_mp_per_second    all pixels by all seconds of the codec alone, after a warm-up
    peak_bytes          largest resident memory of the process: Python, libraries and the largest image included
    rest_bytes          the same before the first image
    files[] {name, bits}
load: processes that wanted to run, mean of one minute, before and after; other work makes the speeds lower.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import NvaeCodecError
from nvae_codec.evaluation.baselines import Baseline, list_baselines
from nvae_codec.evaluation.inputs import Input, find_inputs
from nvae_codec.runtime import peak_resident_memory

OURS = "nvae-codec"
WARM_UP = 64
Row = dict[str, Any]


def run_codec(name: str, inputs: Sequence[str | Path], options: dict[str, Any]) -> Row:
    """The row of one codec, measured in a new process. Raises NvaeCodecError where that failed."""
    words = [sys.executable, "-m", "nvae_codec.evaluation.bench", name, json.dumps(options), *map(str, inputs)]
    threads = {} if options.get("threads") is None else {"OMP_NUM_THREADS": str(options["threads"])}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}, check=False)
    if done.returncode:
        raise NvaeCodecError(f"{name} failed")
    row: Row = json.loads(done.stdout)
    return row


def bench(
    inputs: Sequence[str | Path], options: dict[str, Any], names: Sequence[str], announce: Callable[[str], None]
) -> Row:
    """The named codecs over all images. ``announce`` is called with the name of each before it runs."""
    from nvae_codec.evaluation.machine import describe_machine

    images = [item.read_colours() for item in find_inputs(inputs)]
    rows, load = [], [machine_load()]
    for name in names:
        announce(name)
        rows.append(run_codec(name, inputs, options))
    return {
        "format": "nvae-codec bench 1",
        "machine": describe_machine(),
        "load": [*load, machine_load()],
        "threads": options.get("threads"),
        "images": len(images),
        "dims": sum(image.dims for image in images),
        "megapixels": sum(image.width * image.height for image in images) / 1e6,
        "codecs": rows,
    }


def machine_load() -> float | None:
    """The system's load average of the last minute; None if the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def codec_names() -> list[str]:
    """The names of our codec and of the baselines."""
    return [OURS, *(baseline.name for baseline in list_baselines())]


def measure_codec(baseline: Baseline, inputs: Sequence[str]) -> Row:
    """Size and speed of a codec over images, in this process."""
    row: Row = {"name": baseline.name, "library": baseline.made_by}
    if baseline.made_by is None:
        return row
    found = find_inputs(inputs)
    warm = np.ascontiguousarray(_pixels(found[0])[:WARM_UP, :WARM_UP])
    baseline.decode(baseline.encode(warm))
    rest, seconds = peak_resident_memory(), [0.0, 0.0]
    sizes: list[int] = []
    rates, names, pixel_count, dims = [], [], 0, 0
    for item in found:
        pixels = np.ascontiguousarray(_pixels(item))
        start = time.perf_counter()
        data = baseline.encode(pixels)
        middle = time.perf_counter()
        restored = baseline.decode(data)
        end = time.perf_counter()
        if not _same(restored, pixels):
            raise NvaeCodecError(f"{baseline.name} does not give back {item.name}")
        seconds[0] += middle - start
        seconds[1] += end - middle
        sizes.append(8 * len(data))
        names.append(item.name)
        rates.append(8 * len(data) / pixels.size)
        pixel_count += pixels.shape[0] * pixels.shape[1]
        dims += pixels.size
    bits = sum(sizes)
    return row | {
        "bits": bits,
        "bpd": bits / dims,
        "mean_bpd": float(np.mean(rates)),
        "encode_mp_per_second": pixel_count / 1e6 / seconds[0],
        "decode_mp_per_second": pixel_count / 1e6 / seconds[1],
        "peak_bytes": peak_resident_memory(),
        "rest_bytes": rest,
        "files": [{"name": name, "bits": size} for name, size in zip(names, sizes, strict=True)],
    }


def _pixels(item: Input) -> NDArray[np.uint8]:
    return item.read_colours().require_pixels("bench")


def _same(restored: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> bool:
    """Whether a codec restored the pixels; one without gray restores three equal colours."""
    gray_as_colours = pixels.ndim == 2 and restored.ndim == 3
    return np.array_equal(restored, np.repeat(pixels[:, :, None], 3, 2) if gray_as_colours else pixels)


def our_codec(options: dict[str, Any]) -> Baseline:
    """This codec as a baseline: ``--method model``, with the model loaded once."""
    from nvae_codec import __version__, compress, decompress, load_model

    codec = load_model(options["model"], **{key: options[key] for key in ("device", "threads", "batch_tiles")})
    library = f"nvae-codec {__version__}, {codec.name} {codec.identity[:4].hex()}"
    return Baseline(
        OURS,
        library,
        lambda pixels: compress(pixels, model=codec, method="model", effort=options["effort"]),
        lambda data: decompress(data, model=codec),
    )


def main() -> None:
    """Measure one codec and print its row."""
    name, options, *inputs = sys.argv[1:]
    baseline = our_codec(json.loads(options)) if name == OURS else {p.name: p for p in list_baselines()}[name]
    print(json.dumps(measure_codec(baseline, inputs)))


if __name__ == "__main__":
    main()
