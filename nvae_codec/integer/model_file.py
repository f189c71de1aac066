"""An integer model as one safetensors file: tensors of the smallest integer types, and a description in JSON.

The description has every field of the dataclasses (model.py, operations.py), and nothing else. There is no pickle.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nvae_codec.errors import ModelFileError
from nvae_codec.integer.bounds import prove_exact
from nvae_codec.integer.canary import make_canary
from nvae_codec.integer.consistency import check_consistency
from nvae_codec.integer.description import Arrays, describe, rebuild
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.header import LARGEST_HEADER, MODEL_FORMAT, Header, parse_header
from nvae_codec.integer.model import Adaptable, IntegerModel, LatentGroup
from nvae_codec.integer.operations import OPERATIONS
from nvae_codec.likelihoods.likelihood import find_coded

PARTS = ("graph", "groups", "tables", "adaptable", "expert")
METADATA = ("name", "identity", "canary")
"""Fields of a model that the description describes by themselves, and those that are not in it."""
MOST_GROUPS = 1024


def finalize(draft: IntegerModel) -> IntegerModel:
    """A model with its bounds proved, and its identity and canary computed. Raises ModelFileError."""
    prove_exact(draft.graph)
    arrays, description = _describe(draft)
    return dataclasses.replace(draft, identity=_identify(arrays, description), canary=make_canary(draft.graph))


def pack_model(model: IntegerModel, recipe: str, report: dict[str, Any]) -> bytes:
    """The model file of a finalized model, with the text of its recipe and the report of its export."""
    arrays, description = _describe(model)
    metadata = {
        "format": MODEL_FORMAT, "name": model.name, "identity": model.identity.hex(), "canary": model.canary,
        "description": description, "recipe": recipe, "report": json.dumps(report),
    }  # fmt: skip
    return save(arrays, metadata)


def read_model(path: str | Path) -> IntegerModel:
    """Read a model file and check its identity, parts and bounds; checking the canary is up to the loader.

    Raises ModelFileError in one line if it is not a sound model of this version; OSError.
    """
    data = Path(path).read_bytes()
    try:
        length = int.from_bytes(data[:8], "little")
        header = parse_header(data[8 : 8 + length] if length <= LARGEST_HEADER else b"")
        with torch.device("cpu"):
            model = _rebuild(load(data), header)
            check_consistency(model, model.bounds)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (SafetensorError, MemoryError) as error:
        raise ModelFileError(f"{path}: not a model file ({type(error).__name__})") from None
    return model


def _identify(arrays: Arrays, description: str) -> bytes:
    """SHA-256 of everything that the integers of a file depend on; the name is not part of it."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _describe(model: IntegerModel) -> tuple[Arrays, str]:
    arrays: Arrays = {}
    describe(model.tables, "table", arrays)
    operations = [
        {"operation": type(operation).__name__, **describe(operation, f"operation.{operation.name}", arrays)}
        for operation in model.graph.operations.values()
    ]
    groups = [describe(group, f"group.{index}", arrays) for index, group in enumerate(model.groups)]
    layers = [describe(layer, f"adaptable.{index}", arrays) for index, layer in enumerate(model.adaptable)]
    description = {
        **describe(model, "model", arrays, without=PARTS + METADATA),
        "operations": operations, "outputs": model.graph.outputs, "groups": groups,
        **({"adaptable": layers} if layers else {}),
    }  # fmt: skip
    return arrays, json.dumps(description, sort_keys=True, separators=(",", ":"))


def _rebuild(arrays: Arrays, header: Header) -> IntegerModel:
    metadata, description = header.metadata, dict(header.description)
    if _identify(arrays, metadata["description"]) != header.identity:
        raise ModelFileError("damaged (its identity does not match)")
    operations, groups, outputs = (description.pop(name, None) for name in ("operations", "groups", "outputs"))
    if not (isinstance(operations, list) and isinstance(groups, list) and isinstance(outputs, dict)):
        raise ModelFileError("no operations, groups or outputs")
    if len(groups) > MOST_GROUPS or not all(isinstance(name, str) for name in outputs.values()):
        raise ModelFileError("groups or outputs that cannot be")
    tables = find_coded(str(description.get("likelihood"))).tables
    graph = Graph([_rebuild_operation(arrays, fields) for fields in operations], outputs).to(torch.device("cpu"))
    layers = description.pop("adaptable", [])
    if not isinstance(layers, list) or len(layers) > len(operations):
        raise ModelFileError("adaptable layers that cannot be")
    return rebuild(
        IntegerModel, description, "model", arrays,
        graph=graph, tables=rebuild(tables, {}, "table", arrays),
        groups=tuple(rebuild(LatentGroup, fields, f"group.{index}", arrays) for index, fields in enumerate(groups)),
        adaptable=tuple(rebuild(Adaptable, each, f"adaptable.{index}", arrays) for index, each in enumerate(layers)),
        expert=0,
        name=metadata["name"], identity=header.identity, canary=metadata["canary"],
    )  # fmt: skip


def _rebuild_operation(arrays: Arrays, fields: object) -> Any:
    if not isinstance(fields, dict):
        raise ModelFileError("an operation that is not an object")
    own = dict(fields)
    kind = OPERATIONS.get(str(own.pop("operation", None)))
    if kind is None:
        raise ModelFileError(f"an unknown operation {str(fields.get('operation'))[:40]!r}")
    return rebuild(kind, own, f"operation.{str(own.get('name'))[:200]}", arrays)
