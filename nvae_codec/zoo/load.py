"""A model made ready to code: found, proved on this machine, and put on its device."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext, suppress
from pathlib import Path

import torch

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.errors import NumericsError, NvaeCodecError
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.model_file import read_model


def prepare_codec(
    model: IntegerModel, *, device: str = "auto", threads: int | None = None, batch_tiles: int | None = None
) -> ModelCodec:
    """A codec on a device (cpu, cuda, or auto: CUDA where it is and computes the model's integers).

    Raises NumericsError where the model's canary, run with as many threads, differs.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise NvaeCodecError("no CUDA device is here; use --device cpu")
    if device != "cpu" and torch.cuda.is_available():
        with suppress(NumericsError) if device == "auto" else nullcontext():
            return _prove_codec(model, torch.device("cuda"), batch_tiles)
    return _prove_codec(model, torch.device("cpu"), batch_tiles)


def _prove_codec(model: IntegerModel, device: torch.device, batch_tiles: int | None) -> ModelCodec:
    codec = ModelCodec(dataclasses.replace(model, graph=model.graph.to(device)), device=device, batch_tiles=batch_tiles)
    codec.prove()
    return codec


def load_codec(
    name_or_path: str | Path, *, device: str = "auto", threads: int | None = None, batch_tiles: int | None = None
) -> ModelCodec:
    """Load a model by name or path. Raises UnknownModelError, ModelFileError, NumericsError."""
    from nvae_codec.zoo.library import find_model

    return prepare_codec(
        read_model(find_model(name_or_path).path), device=device, threads=threads, batch_tiles=batch_tiles
    )
