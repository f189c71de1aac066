"""Hostile models, recipes and checkpoints of the official code, and small files that claim much."""

import dataclasses
import io
import json
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.container.archive.index import archive_header
from nvae_codec.container.archive.reader import Archive
from nvae_codec.container.checksums import bytes_checksum
from nvae_codec.container.extensions import METADATA, extension
from nvae_codec.container.fields import pack_varint
from nvae_codec.container.header import Parts, join_parts, split_parts
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.images.raster import RasterImage
from nvae_codec.integer import model_file
from nvae_codec.integer.canary import make_canary
from nvae_codec.integrations.nvlabs import import_network, make_recipe, read_official
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.schedule.shape import Shape
from nvae_codec.zoo.library import Models
from tests.conformance.official import make_official
from tests.models import make_image
from tools.fuzz_target import Target, WrongPixelsError, join_archive, mutate

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 8, 1.5, 1e308, float("inf"), float("nan"), 2**31, 2**63, 10**400, -(10**9),
    "", "x", "a" * 10_000, [], {}, [[]], [1] * 10_000, {"x": {}}, "[" * 2000,
)  # fmt: skip
"""What fields of descriptions like least."""
LONGEST = 1 << 25  # bytes of a description, as safetensors writes no header of 100 MB


def model_target(path: Path) -> Target:
    """Model files: of half, bytes are changed; the others are descriptions and tensors changed, and resealed."""
    files = [(GOLDEN / f"{name}.safetensors").read_bytes() for name in ("tiny", "digits", "five", "flows")]

    def make(rng: np.random.Generator) -> tuple[bytes, bool]:
        data = files[rng.integers(len(files))]
        if rng.random() < 0.2:
            return mutate(data, data[::-1], rng), False
        length = int.from_bytes(data[:8], "little")
        metadata, arrays = json.loads(data[8 : 8 + length])["__metadata__"], load(data)
        description = json.loads(metadata["description"])
        for _ in range(rng.integers(1, 3)):
            if rng.random() < 0.6:
                description = change_value(description, rng)
            else:
                _change_array(arrays, rng)
        metadata["description"] = json.dumps(description)[:LONGEST]
        metadata["identity"] = model_file._identify(arrays, metadata["description"]).hex()
        return save(arrays, metadata), True

    def read(data: bytes) -> None:
        path.write_bytes(data)
        model = model_file.read_model(path)
        codec = ModelCodec(dataclasses.replace(model, canary=make_canary(model.graph)))
        pixels = make_image(16, 24)
        taken = pixels if codec.input.channels == 3 else pixels[:, :, 0]
        taken = taken >> np.uint8(8 - codec.input.bits)
        shape = Shape(16, 24, gray=codec.input.channels == 1)
        if not np.array_equal(codec.decode([shape], codec.encode([taken]))[0], taken):
            raise WrongPixelsError

    return Target("model file", make, read)


def change_value(value: Any, rng: np.random.Generator) -> Any:
    """A value of JSON or of arguments with one of its parts replaced, removed or repeated."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return VALUES[rng.integers(len(VALUES))]
    chooser = random.Random(int(rng.integers(1 << 62)))
    if isinstance(value, list):
        at = chooser.randrange(len(value))
        match chooser.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value + [value[at]] * chooser.choice((1, 2, 100, 5000))
        return [*value[:at], change_value(value[at], rng), *value[at + 1 :]]
    key = chooser.choice(list(value))
    if chooser.random() < 0.15:
        return {each: item for each, item in value.items() if each != key}
    return value | {key: change_value(value[key], rng)}


def _change_array(arrays: dict[str, Any], rng: np.random.Generator) -> None:
    name = sorted(arrays)[rng.integers(len(arrays))]
    array = arrays[name]
    match rng.integers(6):
        case 0:
            arrays[name] = array[: len(array) // 2] if array.ndim else array.reshape(1)
        case 1:
            arrays[name] = array.astype((np.float32, np.int8, np.int64, np.float64)[rng.integers(4)])
        case 2:
            arrays[name] = array.reshape(-1)
        case 3:
            del arrays[name]
        case 4:
            arrays[name] = np.full_like(array, (0, -1, 127, 1)[rng.integers(4)])
        case _:
            changed = array.copy()
            changed.reshape(-1)[rng.integers(max(1, changed.size)) : None : 7] = (0, 127, -128, 1)[rng.integers(4)]
            arrays[name] = changed


def recipe_target(path: Path) -> Target:
    """Recipes: bytes changed, or the value of a line."""
    text = path.read_bytes()
    lines = text.decode().splitlines()

    def make(rng: np.random.Generator) -> tuple[str, bool]:
        if rng.random() < 0.5:
            return mutate(text, text[::-1], rng).decode("utf-8", "replace"), False
        changed = list(lines)
        at = int(rng.integers(len(changed)))
        key = changed[at].partition("=")[0].strip() or "name"
        nested = ("[" * 3000, "9" * 100_000, "{x = " * 500, "a." * 20_000 + "a = 1", '"' + "x" * 100_000 + '"')
        usual = ("-1", "0", "1.5", "nan", "inf", '"x"', "[]", "{}", "true", "2979-01-01", "1e308", "0x7fffffffffffffff")
        changed[at] = f"{key} = {(nested + 3 * usual)[rng.integers(len(nested) + 3 * len(usual))]}"
        return "\n".join(changed), False

    return Target(f"recipe {path.stem}", make, lambda text: parse_recipe(text, folder=path.parent))


def checkpoint_target(path: Path) -> Target:
    """Checkpoints of the official code: arguments, cells and tensors changed, or bytes of the file."""

    def make(rng: np.random.Generator) -> tuple[bytes, bool]:
        content = make_official({})
        match rng.integers(4):
            case 0 | 1:
                arguments = vars(content["args"])
                name = sorted(arguments)[rng.integers(len(arguments))]
                arguments[name] = change_value(arguments[name], rng)
            case 2:
                content["arch_instance"] = change_value(content["arch_instance"], rng)
            case _:
                state = content["state_dict"]
                name = sorted(state)[rng.integers(len(state))]
                hostile = (torch.zeros(()), torch.zeros(0), torch.zeros(3, 10**6).expand(3, 10**6), "x", None)
                state[name] = hostile[rng.integers(len(hostile))]
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        return (mutate(data, data[::-1], rng) if rng.random() < 0.3 else data), False

    def read(data: bytes) -> None:
        path.write_bytes(data)
        official = read_official(path)
        import_network(official, make_recipe(official))

    return Target("official checkpoint", make, read)


def bomb_targets(models: Models, folder: Path) -> list[Target]:
    """Small files that claim much."""
    path = folder / "bomb.nvae"
    dot = split_parts(write_file(RasterImage.from_pixels(np.zeros((1, 1, 3), np.uint8)), "stored", models))

    def size(rng: np.random.Generator, most: int) -> int:
        return int(2 ** rng.uniform(0, np.log2(most)))

    def metadata(rng: np.random.Generator) -> tuple[bytes, bool]:
        plain = (b"tEXt\0", b"tEXt\x01x", b"", b"IDAT\0")[rng.integers(4)] * size(rng, 1 << 25) + b"IDAT\0"
        stream = zlib.compress(plain, 1)
        blocks = (extension(METADATA, stream + bytes_checksum(stream)),)
        return join_parts(Parts(dataclasses.replace(dot.header, extensions=blocks), dot.payload)), True

    def plan(rng: np.random.Generator) -> tuple[bytes, bool]:
        image = split_parts(write_file(RasterImage.from_pixels(make_image(8, 8)), "model", models))
        header = dataclasses.replace(
            image.header,
            width=size(rng, 1 << 16),
            height=size(rng, 1 << 11),
            plan=tuple(map(int, rng.integers(0, 9, 4))),
        )
        return join_parts(Parts(header, image.payload + bytes(size(rng, 1 << 16)))), True

    def index(rng: np.random.Generator) -> tuple[bytes, bool]:
        segments, images = size(rng, 1 << 24), size(rng, 1 << 22)
        row = pack_varint(1) + pack_varint(1) + bytes(8)
        names = b"".join(
            pack_varint(len(name)) + name for name in (b"a/" * depth + b"x%d" for depth in (1, 300)) if len(name) < 1000
        )
        plain = pack_varint(segments) + row * min(segments, 1 << 22) + names * (images // 64 + 1) + bytes(images)
        head = archive_header(bytes(32))
        return join_archive(head, bytes(min(segments, 1 << 16)), zlib.compress(plain, 1)), True

    def read_archive(data: bytes) -> None:
        path.write_bytes(data)
        Archive(path, models)

    def read(data: bytes) -> object:
        return read_file(data, models)

    return [
        Target("metadata bomb", metadata, read),
        Target("plan bomb", plan, read),
        Target("index bomb", index, read_archive),
    ]
