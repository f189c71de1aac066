"""Dataclasses to JSON and arrays, and back: the fields and their types are the schema of a model file."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.errors import ModelFileError

Arrays = dict[str, NDArray[Any]]
Record = TypeVar("Record")

LARGEST_INTEGER = 2**31


def describe(record: object, prefix: str, arrays: Arrays, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a dataclass as JSON values; tensors and arrays go to ``arrays`` as ``prefix.field``."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, item.name)
        if item.name in without:
            continue
        if isinstance(value, Tensor):
            arrays[f"{prefix}.{item.name}"] = _smallest(value)
        elif isinstance(value, np.ndarray):
            arrays[f"{prefix}.{item.name}"] = value
        else:
            values[item.name] = value
    return values


def rebuild(kind: type[Record], values: object, prefix: str, arrays: Arrays, **given: object) -> Record:
    """The inverse of :func:`describe`, with the fields that it left out ``given``.

    Raises ModelFileError unless there is exactly one value of the right type for each field.
    """
    if not isinstance(values, dict):
        raise ModelFileError(f"{prefix}: not an object")
    fields = {name: hint for name, hint in _hints(cast(Any, kind)).items() if name not in given}
    if unknown := set(values) - set(fields):
        raise ModelFileError(f"{prefix}: unknown field {min(unknown)}")
    found = {name: _read(values, name, hint, f"{prefix}.{name}", arrays) for name, hint in fields.items()}
    return kind(**found, **given)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {item.name: resolve_alias(hints[item.name]) for item in dataclasses.fields(kind)}


def resolve_alias(hint: Any) -> Any:
    """What an alias of a type stands for: from NumPy 2.5 on, ``NDArray`` is one."""
    alias = get_origin(hint)
    return alias.__value__[get_args(hint)] if hasattr(alias, "__value__") else hint


def _read(values: Mapping[str, Any], name: str, hint: Any, where: str, arrays: Arrays) -> object:
    if hint is Tensor or get_origin(hint) is np.ndarray:
        if where not in arrays:
            raise ModelFileError(f"no tensor {where}")
        return _to_tensor(arrays[where], where) if hint is Tensor else _to_array(arrays[where], hint, where)
    if name not in values:
        raise ModelFileError(f"no field {where}")
    value = values[name]
    if get_origin(hint) is tuple:
        element = get_args(hint)[0]
        if isinstance(value, list) and all(_fits(each, element) for each in value):
            return tuple(value)
    elif _fits(value, hint):
        return value
    raise ModelFileError(f"{where}: {str(value)[:40]!r} is not of its type")


def _fits(value: object, hint: type[object]) -> bool:
    return type(value) is hint and not (isinstance(value, int) and abs(value) > LARGEST_INTEGER)


def _to_tensor(array: NDArray[Any], where: str) -> Tensor:
    """Tables as int32, everything else as float32."""
    if array.dtype not in (np.int8, np.int16, np.int32, np.float32):
        raise ModelFileError(f"{where}: a tensor of {array.dtype}")
    return torch.from_numpy(array.astype(np.int32 if where.endswith(".table") else np.float32))


def _to_array(array: NDArray[Any], hint: Any, where: str) -> NDArray[Any]:
    (dtype,) = get_args(get_args(hint)[1])
    if array.dtype != dtype:
        raise ModelFileError(f"{where}: a tensor of {array.dtype}")
    return array


def _smallest(value: Tensor) -> NDArray[Any]:
    """Integers in the smallest type that holds them; other numbers as float32."""
    array = value.detach().cpu().contiguous().numpy()
    if not np.array_equal(array, np.rint(array)):
        return array.astype(np.float32)
    kinds = (np.int8, np.int16, np.int32)
    largest = float(np.abs(array).max(initial=0))
    return array.astype(next(kind for kind in kinds if largest <= np.iinfo(kind).max))
