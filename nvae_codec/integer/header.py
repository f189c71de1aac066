"""The header of a model file, read without torch and without its tensors."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from nvae_codec.errors import ModelFileError

MODEL_FORMAT = "nvae-codec model 1"
LARGEST_HEADER = 1 << 24
"""Bytes: about a hundred for each operation and tensor."""
IDENTITY_BYTES = 32


class Header(NamedTuple):
    """The metadata of a model file, and its description as parsed JSON."""

    metadata: dict[str, str]
    description: dict[str, Any]
    identity: bytes


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file: length, JSON. Raises ModelFileError, which names the file, or OSError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if 2 <= length <= LARGEST_HEADER else b""
    try:
        return parse_header(text)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def parse_header(text: bytes) -> Header:
    """The header of a model from its JSON. Raises ModelFileError."""
    metadata = _parse(text).get("__metadata__")
    wanted = ("format", "name", "identity", "canary", "description")
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(key), str) for key in wanted):
        raise ModelFileError("not a model file")
    if metadata["format"] != MODEL_FORMAT:
        raise ModelFileError(f"a model of format {metadata['format']!r}; this version reads {MODEL_FORMAT!r}")
    try:
        identity = bytes.fromhex(metadata["identity"])
    except ValueError:
        identity = b""
    if len(identity) != IDENTITY_BYTES:
        raise ModelFileError("not a model file (its identity)")
    return Header(metadata, _parse(metadata["description"]), identity)


def _parse(text: str | bytes) -> dict[str, Any]:
    """A JSON object without Infinity and NaN."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"not a model file ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise ModelFileError("not a model file")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
