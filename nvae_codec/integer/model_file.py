"""A frozen model as one safetensors file: tensors of the smallest whole types, and a description in JSON. No pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from nvae_codec.errors import ModelFileError
from nvae_codec.integer.bounds import prove_exact
from nvae_codec.integer.canary import make_canary
from nvae_codec.integer.consistency import check_consistency
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.model import IntegerModel, LatentGroup
from nvae_codec.integer.operations import OPERATIONS, Operation
from nvae_codec.likelihoods.likelihood import find_coded

FORMAT = "nvae-codec exact 1"
Arrays = dict[str, NDArray[Any]]
NOT_A_MODEL = (
    SafetensorError, ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, ArithmeticError,
    MemoryError,
)  # fmt: skip
"""What reading bytes that are no model may raise."""
SCALARS = ("stride", "levels", "components", "bounded_colour", "pixel_bits", "latent_bits")
LATER_SCALARS = {
    field.name: field.default for field in dataclasses.fields(IntegerModel) if field.default is not dataclasses.MISSING
}
"""Fields that came later: the description has those that differ from what every model was before."""


def seal(draft: IntegerModel) -> IntegerModel:
    """A model with its identity and canary computed, its bounds proved."""
    prove_exact(draft.graph)
    arrays, description = _describe(draft)
    return dataclasses.replace(draft, identity=_identify(arrays, description), canary=make_canary(draft.graph))


def pack_model(model: IntegerModel, recipe: str, report: dict[str, Any]) -> bytes:
    """The model file of a sealed model, with the text of its recipe and the report of its freezing."""
    arrays, description = _describe(model)
    metadata = {
        "format": FORMAT, "name": model.name, "identity": model.identity.hex(), "canary": model.canary,
        "description": description, "recipe": recipe, "report": json.dumps(report),
    }  # fmt: skip
    return save(arrays, metadata)


def read_model(path: str | Path) -> IntegerModel:
    """Read a model file: check identity, parts and bounds (the canary is the loader's work).

    Raises ModelFileError in one line for anything that is not a sound model of this version; OSError.
    """
    data = Path(path).read_bytes()
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        if metadata["format"] != FORMAT:
            raise ModelFileError(f"a model of another version ({metadata['format']})")
        arrays = load(data)
        if _identify(arrays, metadata["description"]) != bytes.fromhex(metadata["identity"]):
            raise ModelFileError("damaged (its identity does not match)")
        model = _rebuild(arrays, json.loads(metadata["description"]), metadata)
        check_consistency(model, prove_exact(model.graph))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except NOT_A_MODEL as error:
        raise ModelFileError(f"{path}: not a model file ({type(error).__name__})") from None
    return model


def _identify(arrays: Arrays, description: str) -> bytes:
    """SHA-256 of everything that the integers of a file depend on; the name is not among it."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _describe(model: IntegerModel) -> tuple[Arrays, str]:
    arrays: Arrays = {f"table.{name}": array for name, array in model.tables.arrays().items()}
    steps = []
    for operation in model.graph.operations.values():
        constants = operation.constants()
        for key, value in constants.items():
            arrays[f"{operation.name}.{key}"] = _smallest(value)
        scalars = {k: v for k, v in vars(operation).items() if k not in constants}
        steps.append({"operation": type(operation).__name__, "constants": sorted(constants), **scalars})
    groups = []
    for index, group in enumerate(model.groups):
        fields = dict(vars(group))
        arrays[f"group.{index}.multiplier"] = fields.pop("multiplier")
        flow_multipliers = fields.pop("flow_multipliers")
        if group.flow_bounds:
            arrays[f"group.{index}.flow_multipliers"] = flow_multipliers
        else:  # as in models from before there were flows
            del fields["flow_bounds"]
        if group.coarse == usual_coarse(fields):
            del fields["coarse"]
        groups.append(fields)
    later = {name: getattr(model, name) for name, usual in LATER_SCALARS.items() if getattr(model, name) != usual}
    description = {
        "steps": steps, "outputs": model.graph.outputs, "groups": groups,
        "colour_order": model.colour_order, **{name: getattr(model, name) for name in SCALARS}, **later,
    }  # fmt: skip
    return arrays, json.dumps(description, sort_keys=True, separators=(",", ":"))


def _smallest(value: Tensor) -> NDArray[Any]:
    """Integers in the smallest type that holds them; other numbers as float32."""
    array = value.detach().cpu().contiguous().numpy()
    if not np.array_equal(array, np.rint(array)):
        return array.astype(np.float32)
    kinds = (np.int8, np.int16, np.int32)
    largest = float(np.abs(array).max(initial=0))
    return array.astype(next(kind for kind in kinds if largest <= np.iinfo(kind).max))


def _rebuild(arrays: Arrays, description: dict[str, Any], metadata: dict[str, str]) -> IntegerModel:
    operations: list[Operation] = []
    for step in description["steps"]:
        kind = OPERATIONS[step.pop("operation")]
        constants = {}
        for key in step.pop("constants"):
            array = arrays[f"{step['name']}.{key}"]
            constants[key] = torch.from_numpy(array.astype(np.int32 if key == "table" else np.float32))
        fields: dict[str, Any] = {**step, "inputs": tuple(step["inputs"]), **constants}
        operations.append(kind(**fields))
    groups = [_rebuild_group(arrays, index, fields) for index, fields in enumerate(description["groups"])]
    later = {name: description.get(name, usual) for name, usual in LATER_SCALARS.items()}
    tables: dict[str, Any] = {n.removeprefix("table."): a for n, a in arrays.items() if n.startswith("table.")}
    return IntegerModel(
        name=metadata["name"], graph=Graph(operations, description["outputs"]).to(torch.device("cpu")),
        groups=tuple(groups), tables=find_coded(later["likelihood"]).tables(**tables),
        colour_order=tuple(description["colour_order"]),
        identity=bytes.fromhex(metadata["identity"]), canary=metadata["canary"],
        **{name: description[name] for name in SCALARS}, **later,
    )  # fmt: skip


def _rebuild_group(arrays: Arrays, index: int, fields: dict[str, Any]) -> LatentGroup:
    lists: dict[str, Any] = {name: tuple(fields[name]) for name in ("kept", "steps", "flow_bounds") if name in fields}
    names = ["multiplier", "flow_multipliers"] if "flow_bounds" in fields else ["multiplier"]
    later = {"coarse": usual_coarse(fields)}
    return LatentGroup(**{**later, **fields, **lists, **{name: arrays[f"group.{index}.{name}"] for name in names}})


def usual_coarse(group: dict[str, Any]) -> int:
    """The ``coarse`` of a group whose description has none, as the first models."""
    return 16 if "flow_bounds" in group else 4
