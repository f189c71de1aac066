"""Model files: what is written is read back, and what is no sound model is refused in one line."""

import contextlib
import dataclasses
import json
import pickle
import random
import struct
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from typing_extensions import TypeAliasType

from nvae_codec.errors import ModelFileError
from nvae_codec.integer.description import resolve_alias
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.model_file import pack_model, read_model
from tests.integer.hashing import evaluate, hash_outputs, make_inputs
from tests.models import RECIPES, exported_model

Kind = TypeVar("Kind")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    path.write_bytes(pack_model(exported_model(), "name = 'tiny'\n", {"steps": 0}))
    return path


def take_apart(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Arrays and metadata."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return load(data), json.loads(data[8 : 8 + length])["__metadata__"]


@pytest.mark.parametrize("which", RECIPES)
def test_models_make_the_round_trip(which: str, tmp_path: Path) -> None:
    model, path = exported_model(which), tmp_path / "m.safetensors"
    path.write_bytes(pack_model(model, "recipe", {"a": 1}))
    again = read_model(path)
    for item in dataclasses.fields(IntegerModel):
        if item.name not in ("graph", "groups", "tables"):
            assert getattr(again, item.name) == getattr(model, item.name)
    for one, other in zip(model.groups, again.groups, strict=True):
        assert np.array_equal(one.multiplier, other.multiplier)
        assert other.multiplier.dtype == np.float64
        assert repr(one) == repr(other)
    for name, table in model.tables.arrays().items():
        assert np.array_equal(table, again.tables.arrays()[name])
        assert table.dtype == again.tables.arrays()[name].dtype
    inputs = make_inputs(model.graph, 3)
    assert hash_outputs(evaluate(model.graph, inputs)) == hash_outputs(evaluate(again.graph, inputs))
    (tmp_path / "again").write_bytes(pack_model(again, "recipe", {"a": 1}))
    assert take_apart(tmp_path / "again")[1] == take_apart(path)[1]


def test_a_model_file_holds_recipe_and_report(path: Path) -> None:
    metadata = take_apart(path)[1]
    assert metadata["recipe"] == "name = 'tiny'\n"
    assert json.loads(metadata["report"]) == {"steps": 0}
    assert metadata["format"] == "nvae-codec model 1"


def test_weights_take_few_bytes(path: Path) -> None:
    arrays, _ = take_apart(path)
    kinds = {array.dtype for name, array in arrays.items() if name.endswith(".weight")}
    assert kinds <= {np.dtype(np.int8), np.dtype(np.int16)}


def test_the_identity_depends_on_every_tensor_and_the_description(path: Path, tmp_path: Path) -> None:
    arrays, metadata = take_apart(path)
    changed = tmp_path / "changed.safetensors"
    for name, array in arrays.items():
        if not array.size:
            continue
        other = array.copy()
        other.ravel()[-1] += 1
        changed.write_bytes(save({**arrays, name: other}, metadata))
        with pytest.raises(ModelFileError, match=r"damaged \(its identity does not match\)"):
            read_model(changed)
    for description in (metadata["description"].replace('"scales":2', '"scales":1'), metadata["description"] + " "):
        changed.write_bytes(save(arrays, {**metadata, "description": description}))
        with pytest.raises(ModelFileError, match="damaged"):
            read_model(changed)
    changed.write_bytes(save({**arrays, "more": np.zeros(1, np.int8)}, metadata))
    with pytest.raises(ModelFileError, match="damaged"):
        read_model(changed)


def refuse(data: bytes, path: Path, reason: str | None = None) -> None:
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=reason) as error:
        read_model(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_damage_is_refused_and_never_by_another_error(path: Path, tmp_path: Path) -> None:
    data, broken = path.read_bytes(), tmp_path / "broken.safetensors"
    (length,) = struct.unpack("<Q", data[:8])
    for size in [0, 1, 7, 8, 9, 100, 8 + length - 1, 8 + length, 8 + length + 1, len(data) // 2, len(data) - 1]:
        refuse(data[:size], broken)
    refuse(data + b"\0", broken)
    rng = random.Random(0)
    for at in [rng.randrange(8 + length, len(data)) for _ in range(40)]:
        refuse(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :], broken)
    for at in [*range(16), *(rng.randrange(16, 8 + length) for _ in range(200))]:
        broken.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        with contextlib.suppress(ModelFileError):  # a name, the recipe and the report are not what files depend on
            assert read_model(broken).identity == exported_model().identity


def test_foreign_files_are_refused(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "foreign.safetensors"
    arrays, metadata = take_apart(path)
    refuse(b"# A model\n\nIt is a text.\n", broken)
    refuse(pickle.dumps({"format": "nvae-codec model 1"}), broken)
    torch.save({"weight": torch.zeros(3)}, broken)
    refuse(broken.read_bytes(), broken)
    refuse(save({"weight": np.zeros(3)}), broken)
    refuse(save(arrays, {**metadata, "format": "nvae-codec exact 99"}), broken, "format 'nvae-codec exact 99'")
    refuse(save(arrays, {key: value for key, value in metadata.items() if key != "canary"}), broken)
    refuse(save(arrays, {**metadata, "identity": "not hexadecimal"}), broken)
    with pytest.raises(OSError, match="No such file"):
        read_model(tmp_path / "none")


def test_types_of_arrays_may_be_aliases() -> None:
    """NumPy's ``NDArray`` is one from NumPy 2.5 on."""
    make_alias: Any = TypeAliasType
    array: Any = np.ndarray
    dtype: Any = np.dtype
    alias = make_alias("alias", array[tuple[int, ...], dtype[Kind]], type_params=(Kind,))
    assert resolve_alias(alias[np.int32]) == np.ndarray[tuple[int, ...], np.dtype[np.int32]]
    assert resolve_alias(tuple[int, ...]) == tuple[int, ...]
