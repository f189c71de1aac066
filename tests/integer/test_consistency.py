"""Model files whose identity is right and whose description is nonsense are refused before anything is coded."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvae_codec.errors import ModelFileError
from nvae_codec.integer.bounds import prove_exact
from nvae_codec.integer.consistency import check_consistency
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.model_file import finalize, pack_model, read_model
from nvae_codec.integer.operations import Input
from tests.models import exported_model


def of_group(**changes: Any) -> IntegerModel:
    first, *others = exported_model().groups
    return dataclasses.replace(exported_model(), groups=(dataclasses.replace(first, **changes), *others))


def of_table(name: str, place: int, value: float) -> IntegerModel:
    table = getattr(exported_model().tables, name).copy()
    table[place] = value
    return dataclasses.replace(exported_model(), tables=dataclasses.replace(exported_model().tables, **{name: table}))


def of_input(name: str, **changes: Any) -> IntegerModel:
    graph = exported_model().graph
    steps = [
        dataclasses.replace(step, **changes) if isinstance(step, Input) and step.name == name else step
        for step in graph.operations.values()
    ]
    return dataclasses.replace(exported_model(), graph=Graph(steps, graph.outputs))


def of_outputs(outputs: dict[str, str]) -> IntegerModel:
    return dataclasses.replace(exported_model(), graph=Graph(list(exported_model().graph.operations.values()), outputs))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scales", -1), ("scales", 10**9), ("components", 0), ("components", 2), ("pixel_bits", 8), ("pixel_bits", 31),
        ("latent_bits", 0), ("latent_bits", 24), ("colour_order", (0, 0, 0)), ("colour_order", (0, 1)), ("stride", 0),
        ("stride", 7), ("stride", 2**20),
    ],
)  # fmt: skip
def test_impossible_fields_are_refused(field: str, value: Any) -> None:
    model = dataclasses.replace(exported_model(), **{field: value})
    with pytest.raises(ModelFileError, match="its description cannot be: "):
        check_consistency(model, prove_exact(model.graph))


def test_impossible_parts_are_refused() -> None:
    outputs = exported_model().graph.outputs
    kept = exported_model().groups[0].active
    models = [
        of_group(stride=0), of_group(stride=5), of_group(channels=0), of_group(active=(10**6,) * len(kept)),
        of_group(active=(-1, *kept[1:])), of_group(bin_widths=()), of_group(bin_widths=(0,) * len(kept)),
        of_group(bin_widths=(10**6,) * len(kept)), of_group(multiplier=np.zeros(1)), of_group(has_prior=True),
        of_group(multiplier=np.full(exported_model().groups[0].channels, np.nan)),
        of_table("sigma", 0, 0), of_table("softmax", 0, 0), of_table("logistic", 9, 10**6), of_table("normal", 9, -1),
        of_table("inverse_scale", 3, np.inf), of_input("image", stride=10**6), of_input("z.0", channels=9),
        of_input("image", largest=254), of_input("blank", stride=1),
        of_outputs({name: step for name, step in outputs.items() if name != "pixels.0"}),
        of_outputs({**outputs, "pixels.0": outputs["posterior.0"]}), of_outputs({**outputs, "more": "image"}),
    ]  # fmt: skip
    bounds = prove_exact(exported_model().graph)
    for model in models:
        with pytest.raises(ModelFileError, match="its description cannot be: "):
            check_consistency(model, bounds)


def test_impossible_flows_are_refused() -> None:
    model = exported_model("official, two pairs of flows")
    first, *others = model.groups
    bounds = prove_exact(model.graph)
    changes: list[dict[str, Any]] = [
        {"flow_bounds": first.flow_bounds[:3], "flow_multipliers": first.flow_multipliers[:3]},
        {"flow_bounds": ()}, {"flow_bounds": (-1, *first.flow_bounds[1:])},
        {"flow_bounds": (2**23, *first.flow_bounds[1:])}, {"flow_multipliers": first.flow_multipliers[:, :1]},
        {"flow_multipliers": first.flow_multipliers * np.nan},
    ]  # fmt: skip
    for fields in changes:
        changed = dataclasses.replace(model, groups=(dataclasses.replace(first, **fields), *others))
        with pytest.raises(ModelFileError, match="its description cannot be: "):
            check_consistency(changed, bounds)
    swapped = {**model.graph.outputs, "shift.0.0": model.graph.outputs["shift.0.1"]}
    steps = list(model.graph.operations.values())
    with pytest.raises(ModelFileError, match="later positions"):
        check_consistency(dataclasses.replace(model, graph=Graph(steps, swapped)), bounds)


def test_a_sealed_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nonsense.safetensors"
    path.write_bytes(pack_model(finalize(dataclasses.replace(exported_model(), colour_order=(0, 0, 0))), "", {}))
    with pytest.raises(ModelFileError, match=r"nonsense\.safetensors: its description cannot be: colour_order$"):
        read_model(path)
