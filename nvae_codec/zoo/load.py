"""A model made ready to code: found, proved on this machine, and put on its device."""

from contextlib import nullcontext, suppress
from pathlib import Path

import torch

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.errors import NumericsError, NvaeCodecError
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.model_file import read_model
from nvae_codec.runtime import Runtime


def prepare_codec(model: IntegerModel, runtime: Runtime | None = None) -> ModelCodec:
    """A codec that has passed the model's canary on the runtime's device and threads.

    Raises NumericsError where the canary fails, and NvaeCodecError where there is no such device.
    """
    runtime = runtime or Runtime()
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise NvaeCodecError("there is no CUDA device; use --device cpu")
    if runtime.device != "cpu" and torch.cuda.is_available():
        with suppress(NumericsError) if runtime.device == "auto" else nullcontext():
            return _prove_codec(model, runtime, torch.device("cuda"))
    return _prove_codec(model, runtime, torch.device("cpu"))


def _prove_codec(model: IntegerModel, runtime: Runtime, device: torch.device) -> ModelCodec:
    codec = ModelCodec(model.to(device), runtime, device=device)
    with codec.ready():
        return codec


def load_codec(path: str | Path, runtime: Runtime | None = None) -> ModelCodec:
    """Load a model file. Raises ModelFileError, NumericsError, OSError."""
    return prepare_codec(read_model(Path(path)), runtime)
