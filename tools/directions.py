"""Directions of adaptation for a model file that has none, or others, without exporting the model again.

    python -m tools.directions MODEL.safetensors IMAGES... -o NEW.safetensors [--keep]

IMAGES are files or folders that show what the model is for. With ``--keep`` layers that have directions keep them, and
others get theirs. The new model has another identity.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from nvae_codec.adaptation.directions import learn_directions
from nvae_codec.integer.model_file import finalize, pack_model, read_model
from nvae_codec.training.sources import list_images, read_image


def learn(model: Path, images: list[Path], output: Path, side: int, *, keep: bool = False) -> str:
    """Write the model with directions learned from the middles of images; its identity in hexadecimal."""
    data = model.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    shown = []
    for path in (file for image in images for file in list_images(image)):
        pixels = np.ascontiguousarray(read_image(path))
        top, left = ((length - min(length, side)) // 2 for length in pixels.shape[:2])
        shown.append(pixels[top : top + side, left : left + side])
    before = read_model(model)
    learned = learn_directions(before, [shown])
    if keep:
        kept = {layer.operation: layer for layer in before.adaptable}
        layers = tuple(kept.get(layer.operation, layer) for layer in learned.adaptable)
        learned = dataclasses.replace(learned, adaptable=layers)
    adaptable = finalize(learned)
    report = json.loads(header["report"]) | {"identity": adaptable.identity.hex()}
    output.write_bytes(pack_model(adaptable, header["recipe"], report))
    return adaptable.identity.hex()


def main() -> None:
    """Learn from the images of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("-o", dest="output", type=Path, required=True)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    print(learn(given.model, given.images, given.output, given.crop, keep=given.keep))


if __name__ == "__main__":
    main()
