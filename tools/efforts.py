"""Bits/dim of whole files by effort, as they are and decoded from JPEG, next to JPEG XL (effort 7).

    python -m tools.efforts IMAGES... [--model NAME|PATH] [--efforts 1 5] [--jpeg] [--json OUT]

A folder stands for the images in it. With ``--jpeg`` each image is first decoded from a JPEG with subsampled chroma, of
quality 75, 80, 85, 90 and 95 in turn. Every file is decoded and compared. Seconds are of the processor, one thread.
"""

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nvae_codec import compress, decompress, load_model
from nvae_codec.evaluation.machine import describe_machine
from nvae_codec.training.sources import list_images, read_image

QUALITIES = (75, 80, 85, 90, 95)
CHROMA_420 = 2
"""Pillow's number of 4:2:0."""


def decode_from_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) after a JPEG with subsampled chroma."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=CHROMA_420)
    return np.array(Image.open(buffer).convert("RGB"))


def measure_image(name: str, pixels: NDArray[np.uint8], model: Any, efforts: list[int]) -> dict[str, Any]:
    """Bits of the files of an image (H, W, 3) by effort, and seconds of encoding and decoding."""
    row: dict[str, Any] = {"name": name, "dims": pixels.size, "efforts": {}}
    row["jpeg_xl_bits"] = 8 * len(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=7))
    for effort in efforts:
        start = time.process_time()
        data = compress(pixels, model=model, method="model", effort=effort)
        middle = time.process_time()
        if not np.array_equal(decompress(data, model=model), pixels):
            raise RuntimeError(f"{name}: effort {effort} does not decode to the same image")
        end = time.process_time()
        times = {"encode_seconds": middle - start, "decode_seconds": end - middle}
        row["efforts"][str(effort)] = {"bits": 8 * len(data), **times}
    return row


def main() -> None:
    """Measure the images of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--efforts", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--jpeg", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    model = load_model(given.model, threads=1)
    rows = []
    for index, path in enumerate(file for image in given.images for file in list_images(image)):
        pixels = np.ascontiguousarray(read_image(path))
        pixels = decode_from_jpeg(pixels, QUALITIES[index % len(QUALITIES)]) if given.jpeg else pixels
        rows.append(measure_image(path.name, pixels, model, given.efforts))
        print(rows[-1]["name"], {effort: each["bits"] for effort, each in rows[-1]["efforts"].items()}, flush=True)
    if given.json:
        about = {"model": model.name, "identity": model.identity.hex(), "machine": describe_machine()}
        given.json.write_text(json.dumps({**about, "jpeg": given.jpeg, "images": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
