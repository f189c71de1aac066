"""A model codec without a model: it deflates the pixels. Enough for the file, the library face and the commands."""

import hashlib
import json
import types
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.coded import Coded
from nvae_codec.coding.ledger import Ledger
from nvae_codec.container.archive.segment import Named
from nvae_codec.container.archive.writer import write_archive
from nvae_codec.errors import DamagedFileError
from nvae_codec.images.levels import ModelInput
from nvae_codec.integer.header import MODEL_FORMAT
from nvae_codec.runtime import Runtime
from nvae_codec.schedule.shape import Shape
from nvae_codec.zoo.library import Models, read_model_info

PLAN = (7, 1, 0, 19)


class FakeCodec:
    """``costs``: bits of each image in the ledger, instead of those of its deflated pixels."""

    def __init__(self, name: str, costs: Sequence[float] = ()) -> None:
        self.name, self.costs = name, costs
        self.identity = hashlib.sha256(name.encode()).digest()
        self.encoded = 0
        self.input = ModelInput()

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        ledger: Ledger | None = None,
        *,
        effort: int = 1,
        shared: bytes = b"",
    ) -> Coded:
        self.encoded += len(images)
        if ledger is not None:
            deflated = [8.0 * len(zlib.compress(levels.tobytes(), 9)) for levels in images]
            ledger.image_bits = list(self.costs)[: len(images)] or deflated
        return Coded(zlib.compress(b"".join(levels.tobytes() for levels in images), 9), PLAN)

    def choose_adaptation(self, images: object, effort: int, total: int | None = None) -> bytes:
        return b""

    def decode(
        self, shapes: Sequence[Shape], coded: Coded, wanted: Collection[int] | None = None
    ) -> dict[int, NDArray[np.uint8]]:
        """As a codec that decodes from the last image to the first, and stops after those that are wanted."""
        if coded.plan != PLAN:
            raise DamagedFileError("damaged: its plan is not one")
        try:
            pixels = zlib.decompress(coded.payload)
        except zlib.error as error:
            raise DamagedFileError("damaged: its payload cannot be decoded") from error
        sizes = [(s.height, s.width) if s.gray else (s.height, s.width, 3) for s in shapes]
        ends = np.cumsum([np.prod(size) for size in sizes])
        if len(pixels) != ends[-1]:
            raise DamagedFileError("damaged: its payload is too short or too long")
        parts = np.split(np.frombuffer(pixels, np.uint8), ends[:-1])
        images = [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]
        return {index: image for index, image in enumerate(images) if wanted is None or index >= min(wanted)}


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


def write_archive_file(path: Path, groups: Iterable[list[Named]], *, method: str, models: Models, **more: Any) -> Path:
    """Write an archive, which may replace its ``base``."""
    part = path.with_suffix(".part")
    with part.open("wb") as out:
        list(write_archive(out, groups, method=method, models=models, **more))
    return part.replace(path)


class NeverCodec(FakeCodec):
    """Fails where it is asked to code."""

    def encode(self, *images: object, **more: object) -> Coded:
        raise AssertionError("this image is not for the model")


def write_fake_model(folder: Path, name: str, **changes: str) -> Path:
    """A model file of which only the header is real."""
    identity = hashlib.sha256(name.encode()).hexdigest()
    description = json.dumps({"channels": 3, "value_bits": 8})
    metadata = {"format": MODEL_FORMAT, "name": name, "identity": identity, "canary": "", "description": description}
    header = json.dumps({"__metadata__": metadata | changes})
    path = folder / name / "model.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    return path


class FakeLoader(types.ModuleType):
    """Stands in for nvae_codec.zoo.load, and notes what it was asked to load."""

    def __init__(self) -> None:
        super().__init__("nvae_codec.zoo.load")
        self.calls: list[dict[str, Any]] = []

    def load_codec(self, name_or_path: str, runtime: Runtime) -> FakeCodec:
        info = read_model_info(Path(name_or_path))
        self.calls.append({"name": info.name, **asdict(runtime)})
        return FakeCodec(info.name)
