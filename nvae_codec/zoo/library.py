"""Installed models: found by name, path or identity without loading them, and loaded once when needed.

A model is a folder with ``model.safetensors``, ``recipe.toml`` and a card, or a model file alone. Names and identities
are looked for among the folders of the package ``nvae_codec.models``, then of those in NVAE_CODEC_MODELS:

    FOLDER / NAME / model.safetensors
"""

import contextlib
import importlib
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.coded import Coded
from nvae_codec.coding.ledger import Ledger
from nvae_codec.errors import ModelFileError, UnknownModelError
from nvae_codec.images.levels import RGB_INPUT, ModelInput
from nvae_codec.integer.header import read_header
from nvae_codec.runtime import Runtime
from nvae_codec.schedule.shape import Shape
from nvae_codec.zoo.hub import SCHEME, fetch_model

DEFAULT_MODEL = "photo"
MODEL_FILE = "model.safetensors"
MODELS_FOLDER = Path(str(importlib.import_module("nvae_codec.models").__file__)).parent
MODELS_VARIABLE = "NVAE_CODEC_MODELS"
"""The environment variable that names more folders of models, separated as in PATH."""

_ID_BYTES = 4


@runtime_checkable
class ImageCodec(Protocol):
    """A model that is ready to code pixels of its levels: uint8 (H, W, 3) for one of RGB, or (H, W) gray."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def identity(self) -> bytes:
        """SHA-256 of everything that its integer network and tables depend on, 32 bytes."""
        ...

    @property
    def input(self) -> ModelInput:
        """The images that it takes."""
        ...

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        ledger: Ledger | None = None,
        *,
        effort: int = 1,
        shared: bytes = b"",
    ) -> Coded:
        """Code one or more images together; the ``ledger`` gets the cost of each.

        ``effort``, from 1 to 9: how long to adapt the model to the images. ``shared``: the adaptation of their archive.
        """
        ...

    def choose_adaptation(self, images: Sequence[NDArray[np.uint8]], effort: int, total: int | None = None) -> bytes:
        """The adaptation of an archive with ``total`` pixels, of which ``images`` are a sample; empty for none."""
        ...

    def decode(
        self, shapes: Sequence[Shape], coded: Coded, wanted: Collection[int] | None = None
    ) -> dict[int, NDArray[np.uint8]]:
        """The images by their index: the ``wanted`` ones (None: all), and maybe others. Raises DamagedFileError."""
        ...


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model in the header of its file."""

    name: str
    identity: bytes
    path: Path
    input: ModelInput = RGB_INPUT

    @property
    def id(self) -> str:
        """The first four bytes of the identity in hexadecimal: what files and messages call the model."""
        return self.identity[:_ID_BYTES].hex()


def read_model_info(path: Path) -> ModelInfo:
    """Read the header of a model file (safetensors: length, JSON, tensors); raises ModelFileError or OSError."""
    status = path.stat()
    return _read_model_info(path, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)  # a name is looked up among all models, and a header takes 10 ms
def _read_model_info(path: Path, _version: tuple[int, ...]) -> ModelInfo:
    header = read_header(path)
    channels, bits = (header.description.get(name, 0) for name in ("channels", "value_bits"))
    if channels not in (1, 3) or bits not in range(1, 9):
        raise ModelFileError(f"{path}: not a model file (its channels or value_bits)")
    return ModelInfo(header.metadata["name"], header.identity, path, ModelInput(channels, bits))


def installed_models() -> list[ModelInfo]:
    """The models that came with the package, by name."""
    return [read_model_info(path) for path in sorted(MODELS_FOLDER.glob(f"*/{MODEL_FILE}"))]


def more_models() -> Iterator[ModelInfo]:
    """The models in the folders of NVAE_CODEC_MODELS, by name; files that cannot be read are skipped."""
    for folder in _more_folders():
        yield from _read_all(sorted(folder.glob(f"*/{MODEL_FILE}")))


def _more_folders() -> list[Path]:
    return [Path(folder) for folder in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if folder]


def _read_all(paths: Iterable[Path]) -> Iterator[ModelInfo]:
    for path in paths:
        with contextlib.suppress(ModelFileError, OSError):
            yield read_model_info(path)


def find_model(name_or_path: str | Path) -> ModelInfo:
    """The model of that name or path; raises UnknownModelError or ModelFileError.

    A path is that of a model file or of its folder. ``hf://ORG/NAME`` is a model of the Hugging Face Hub, which
    is downloaded if the local cache does not have it.
    """
    for info in itertools.chain(installed_models(), more_models()):
        if str(name_or_path) in (info.name, info.path.parent.name):
            return info
    if str(name_or_path).startswith(SCHEME):
        return read_model_info(fetch_model(str(name_or_path), MODEL_FILE))
    path = Path(name_or_path)
    if path.is_dir():
        path /= MODEL_FILE
    if path.is_file():
        return read_model_info(path)
    raise UnknownModelError(f"there is no model {name_or_path}; {_name_those(_all_models())}")


def find_by_identity(prefix: bytes, among: Sequence[ModelInfo] = ()) -> ModelInfo:
    """The model whose identity begins so, among those given and all installed ones.

    Raises UnknownModelError.
    """
    for info in itertools.chain(among, _all_models()):
        if info.identity.startswith(prefix):
            return info
    here = [*among, *_all_models()]
    raise UnknownModelError(f"made by model {prefix[:_ID_BYTES].hex()}, which is not installed; {_name_those(here)}")


def _all_models() -> Iterator[ModelInfo]:
    return itertools.chain(installed_models(), more_models())


def _name_those(here: Iterable[ModelInfo]) -> str:
    names = dict.fromkeys(f"{info.name} ({info.id})" for info in here)
    return f"installed models: {', '.join(names)}" if names else "no models are installed"


class Models:
    """Loads models when they are first needed, each once, all for the same runtime.

    ``model`` is the one to compress with: a name, a path, or a codec that is loaded already. Files are decoded with
    the model that made them, which may be that one or an installed one.
    """

    def __init__(self, model: str | Path | ImageCodec | None = None, runtime: Runtime | None = None) -> None:
        """Raises TypeError for what is not a model."""
        if not isinstance(model, str | Path | ImageCodec | None):
            raise TypeError(f"model must be a name, a path or what load_model gave, not {type(model).__name__}")
        self._model, self._runtime = model, runtime or Runtime()
        self._loaded: dict[bytes, ImageCodec] = {}

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process, which loads the models itself."""
        return self.__dict__ | {"_loaded": {}}

    def identity(self) -> bytes:
        """The identity of the model to compress with, 32 bytes, without loading it; raises as ``find_model``."""
        return self._find().identity

    def input(self) -> ModelInput:
        """The images that the model to compress with takes, without loading it; raises as ``find_model``."""
        return self._find().input

    def chosen(self) -> ImageCodec:
        """The model to compress with; raises UnknownModelError, ModelFileError or NumericsError."""
        found = self._find()
        return self._load(found) if isinstance(found, ModelInfo) else found

    def _find(self) -> ModelInfo | ImageCodec:
        if self._model is None or isinstance(self._model, str | Path):
            return find_model(self._model or DEFAULT_MODEL)
        return self._model

    def made_by(self, model_id: bytes) -> ImageCodec:
        """The model whose identity begins with ``model_id``; raises as ``chosen`` does."""
        given: list[ModelInfo] = []
        if isinstance(self._model, str | Path):
            given.append(find_model(self._model))
        elif self._model is not None:
            if self._model.identity.startswith(model_id):
                return self._model
            given.append(ModelInfo(self._model.name, self._model.identity, Path()))
        return self._load(find_by_identity(model_id, given))

    def _load(self, info: ModelInfo) -> ImageCodec:
        if info.identity not in self._loaded:
            # imported here, since importing torch takes longer than the rest of a command
            from nvae_codec.zoo.load import load_codec

            codec: ImageCodec = load_codec(str(info.path), self._runtime)
            if codec.identity != info.identity:
                raise ModelFileError(f"{info.path} is not the model that it says it is")
            self._loaded[info.identity] = codec
        return self._loaded[info.identity]
