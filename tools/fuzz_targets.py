"""What the fuzzer attacks: how a mutant of each kind of file is made, resealed and read.

Resealed mutants have the checksums and identities of what they now hold, so that what comes after them is reached.
"""

import dataclasses
import io
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.container.archive.index import (
    HEADER_BYTES,
    TRAILER_BYTES,
    Index,
    pack_index,
    read_index,
    segment_checksum,
)
from nvae_codec.container.archive.reader import Archive
from nvae_codec.container.archive.writer import write_archive
from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES, bytes_checksum
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.errors import NvaeCodecError
from nvae_codec.images.raster import RasterImage, same_image
from nvae_codec.images.read import read_image
from nvae_codec.images.write import write_png
from nvae_codec.integer import model_file
from nvae_codec.zoo.library import Models
from tests.conftest import PNGSUITE
from tests.models import make_image
from tools.fuzz_hostile import bomb_targets, checkpoint_target, model_target, recipe_target
from tools.fuzz_target import Target, WrongPixelsError, join_archive, mutate

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"


def make_targets(folder: Path) -> dict[str, list[Target]]:
    """The targets by group. ``folder`` holds what must lie on disk."""
    models = Models(ModelCodec(model_file.read_model(GOLDEN / "tiny.safetensors")))
    files = [*_single_targets(models), *_archive_targets(models, folder), *_image_targets()]
    return {
        "mutants": [*files, *(2 * [target for target in files if target.resealed])],
        "models": [model_target(folder / "model.safetensors")],
        "recipes": [recipe_target(path) for path in sorted((ROOT / "models" / "recipes").glob("*.toml"))],
        "checkpoints": [checkpoint_target(folder / "checkpoint.pt")],
        "bombs": bomb_targets(models, folder),
    }


def same_samples(one: RasterImage, other: RasterImage) -> bool:
    """Whether two images have the same pixels."""
    return same_image(dataclasses.replace(one, chunks=()), dataclasses.replace(other, chunks=()))


def _of_bytes(
    name: str,
    data: bytes,
    read: Callable[[bytes], object],
    reseal: Callable[[bytes, np.random.Generator], bytes] | None,
    always: float = 1.0,
) -> Target:
    """A target whose mutants are changed bytes, of half of which the checksums are made right again.

    ``always``: the share of resealed mutants whose bytes are changed before, as well.
    """

    def make(rng: np.random.Generator) -> tuple[bytes, bool]:
        resealed = reseal is not None and rng.random() < 0.7
        mutant = mutate(data, data[::-1], rng) if not resealed or rng.random() < always else data
        return (reseal(mutant, rng) if resealed and reseal is not None else mutant), resealed

    return Target(name, make, read, data, reseal is not None)


def _single_targets(models: Models) -> list[Target]:
    image = RasterImage.from_pixels(make_image(40, 56))
    buffer = io.BytesIO()
    Image.fromarray(make_image(40, 56)).save(buffer, "JPEG")
    tagged, deep, palette = (
        read_image((PNGSUITE / f"{name}.png").read_bytes()) for name in ("ccwn2c08", "basn6a16", "tp1n3p08")
    )
    made_of = {
        "model": (image, "model"), "tagged": (tagged, "model"), "deep": (deep, "model"), "webp": (image, "webp"),
        "palette": (palette, "webp"), "pixels": (image, "stored"), "own PNG": (tagged, "stored"),
        "own JPEG": (read_image(buffer.getvalue()), "stored"),
    }  # fmt: skip

    def target(name: str, sound: RasterImage, method: str) -> Target:
        def read(data: bytes) -> None:
            found = read_file(data, models)
            if not (found.file == sound.file if found.pixels is None else same_samples(found, sound)):
                raise WrongPixelsError

        return _of_bytes(name, write_file(sound, method, models), read, lambda data, _: _reseal_file(data))

    return [target(name, *what) for name, what in made_of.items()]


def _reseal_file(data: bytes) -> bytes:
    body = data[:-FILE_CHECKSUM_BYTES]
    return body + bytes_checksum(body)


def _archive_targets(models: Models, folder: Path) -> list[Target]:
    path = folder / "archive.nvae"
    image = dataclasses.replace(RasterImage.from_pixels(make_image(40, 56)), modified=981158400)
    tagged = read_image((PNGSUITE / "ccwn2c08.png").read_bytes())
    with path.open("wb") as out:
        groups = [[(f"{name}.png", image), (f"{name}/tagged.png", tagged)] for name in ("one", "two")]
        for _ in write_archive(out, groups, method="auto", models=models):
            pass

    def pixels_of(archive: Archive, index: int) -> bytes:
        image = archive.read_image(index)
        return b"".join(samples.tobytes() for samples in (image.pixels, image.low) if samples is not None)

    def target(name: str, data: bytes) -> Target:
        path.write_bytes(data)
        sound = Archive(path, models)
        known = {pixels_of(sound, index) for index in range(len(sound))}

        def read(mutant: bytes) -> None:
            path.write_bytes(mutant)
            archive = Archive(path, models)
            for index in reversed(range(len(archive))):  # of each segment the last alone, where it can be, and then all
                if pixels_of(archive, index) not in known:
                    raise WrongPixelsError

        return _of_bytes(name, data, read, _reseal_archive, always=0.3)

    return [target("archive", path.read_bytes()), target("archive of batches", (GOLDEN / "archive.nvae").read_bytes())]


def _reseal_archive(data: bytes, rng: np.random.Generator) -> bytes:
    """Change the inflated index, or a segment, of an archive that is sound but for its bytes."""
    if rng.random() < 0.5:
        head, rest = data[:HEADER_BYTES], data[HEADER_BYTES:-TRAILER_BYTES]
        length = int.from_bytes(data[-TRAILER_BYTES:-8], "little")
        if length <= len(rest):
            stream = rest[len(rest) - length :]
            with suppress(zlib.error):
                stream = zlib.compress(mutate(zlib.decompress(stream), stream, rng))
            return join_archive(head, rest[: len(rest) - length], stream)
    try:
        index = read_index(io.BytesIO(data))
    except NvaeCodecError:
        return data
    out, segments = bytearray(data[:HEADER_BYTES]), []
    for segment in index.segments:
        part = data[segment.start : segment.start + segment.length]
        if rng.random() < 0.7:
            part = mutate(part, data, rng) or b"\0"
        checksum = segment_checksum(part)
        segments.append(dataclasses.replace(segment, start=len(out), length=len(part), checksum=checksum))
        out += part
    return bytes(out) + pack_index(Index(index.identity, tuple(segments)))


def _image_targets() -> list[Target]:
    """Images of each format: a mutant is refused, or it comes back from the PNG that is written of it."""

    def read(data: bytes) -> None:
        image = read_image(data)
        again = read_image(write_png(image))
        if image.pixels is not None and not same_samples(image, again):
            raise WrongPixelsError

    pngs = ("basn6a08", "basi3p04", "basi2c16", "ctzn0g04")
    targets = [_of_bytes(f"{name}.png", (PNGSUITE / f"{name}.png").read_bytes(), read, _reseal_png) for name in pngs]
    rgb = Image.fromarray(make_image(40, 56))
    options: dict[str, dict[str, Any]] = {
        "JPEG": {}, "WEBP": {"lossless": True}, "BMP": {}, "PPM": {}, "TIFF": {"compression": "tiff_lzw"}
    }  # fmt: skip
    for kind, option in options.items():
        for mode in ("RGB", "L", "P", "1"):
            buffer = io.BytesIO()
            with suppress(OSError):
                rgb.convert(mode).save(buffer, kind, **option)
                targets.append(_of_bytes(f"{mode}.{kind.lower()}", buffer.getvalue(), read, None))
    pam = b"P7\nWIDTH 4\nHEIGHT 3\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(range(48))
    texts = {"text.pgm": b"P2 # text\n4 3 65535\n" + b" 1 2 3" * 4, "wide.ppm": b"P6 2 2 65535\n" + bytes(24)}
    return targets + [_of_bytes(name, data, read, None) for name, data in (texts | {"x.pam": pam}).items()]


def _reseal_png(data: bytes, _: np.random.Generator) -> bytes:
    """Chunks whose lengths still hold get the checksum of what they now carry."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def read_sound(targets: Sequence[Target]) -> None:
    """Read all sound files once, so that what is loaded by need does not count for a mutant."""
    for target in targets:
        if target.data:
            target.read(target.data)
