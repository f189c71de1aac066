"""A model codec without a model: it deflates the pixels. Enough for the file, the library face and the commands."""

from __future__ import annotations

import hashlib
import json
import types
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import DamagedFileError
from nvae_codec.images.levels import ModelInput
from nvae_codec.zoo.library import MODEL_FORMAT, read_model_info

PLAN = [7, 1, 0, 19]


class FakeCodec:
    def __init__(self, name: str) -> None:
        self.name = name
        self.identity = hashlib.sha256(name.encode()).digest()
        self.encoded = 0
        self.input = ModelInput()

    def encode(self, pixels: NDArray[np.uint8]) -> tuple[list[int], bytes]:
        self.encoded += 1
        return list(PLAN), zlib.compress(pixels.tobytes(), 9)

    def decode(
        self, height: int, width: int, plan: Sequence[int], payload: bytes, *, gray: bool = False
    ) -> NDArray[np.uint8]:
        return self.decode_wanted([(height, width)], plan, payload, [0], [gray])[0]

    def encode_segment(self, images: Sequence[NDArray[np.uint8]]) -> tuple[list[int], bytes]:
        self.encoded += len(images)
        return list(PLAN), zlib.compress(b"".join(pixels.tobytes() for pixels in images), 9)

    def encode_priced(self, images: Sequence[NDArray[np.uint8]]) -> tuple[list[int], bytes, list[float]]:
        prices = [8.0 * len(zlib.compress(pixels.tobytes(), 9)) for pixels in images]
        return *self.encode_segment(images), prices

    def decode_wanted(
        self,
        sizes: Sequence[tuple[int, int]],
        plan: Sequence[int],
        payload: bytes,
        wanted: Collection[int],
        gray: Sequence[bool] = (),
    ) -> dict[int, NDArray[np.uint8]]:
        """As a codec does that decodes from the last image to the first, and stops behind those that are wanted."""
        if list(plan) != PLAN:
            raise DamagedFileError("damaged: its plan is not one")
        try:
            pixels = zlib.decompress(payload)
        except zlib.error as error:
            raise DamagedFileError("damaged: its payload cannot be decoded") from error
        shapes = [size if gray and gray[index] else (*size, 3) for index, size in enumerate(sizes)]
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        if len(pixels) != ends[-1]:
            raise DamagedFileError("damaged: its payload is too short or too long")
        parts = np.split(np.frombuffer(pixels, np.uint8), ends[:-1])
        images = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        return {index: image for index, image in enumerate(images) if index >= min(wanted)}


class OneCodec:
    """A shelf with a single codec on it."""

    def __init__(self, codec: FakeCodec) -> None:
        self.codec = codec

    def chosen(self) -> FakeCodec:
        return self.codec

    def input(self) -> ModelInput:
        return self.codec.input

    def made_by(self, model_id: bytes) -> FakeCodec:
        assert self.codec.identity.startswith(model_id)
        return self.codec


def write_fake_model(folder: Path, name: str, **changes: str) -> Path:
    """A model file of which only the header is real."""
    identity = hashlib.sha256(name.encode()).hexdigest()
    header = json.dumps({"__metadata__": {"format": MODEL_FORMAT, "name": name, "identity": identity} | changes})
    path = folder / name / "model.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    return path


class FakeLoader(types.ModuleType):
    """Stands in for nvae_codec.zoo.load, and notes what it was asked to load."""

    def __init__(self) -> None:
        super().__init__("nvae_codec.zoo.load")
        self.calls: list[dict[str, Any]] = []

    def load_codec(self, name_or_path: str, **options: Any) -> FakeCodec:
        info = read_model_info(Path(name_or_path))
        self.calls.append({"name": info.name, **options})
        return FakeCodec(info.name)
