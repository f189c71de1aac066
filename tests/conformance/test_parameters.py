"""The recipes of the paper's data sets have the official models' parameters, part by part (on the meta device)."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nvae_codec.integrations.nvlabs import match_modules
from nvae_codec.network.cells import SqueezeExcitation
from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.files import read_recipe
from tests.conformance.folder import FOLDER

EXPECTED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "parameters.json").read_text())
"""Counts of the official code, by the names of our recipes."""
OFFICIAL_NAMES = {"celeba-hq-256": "celeba_256", "ffhq-256": "ffhq"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recipe_has_the_official_parameters(name: str) -> None:
    base, without, _ = name.partition("-noflow")
    recipe = read_recipe(base, ["network.flows=0"] if without else [])
    with torch.device("meta"):
        network = Nvae(recipe)
    expected = EXPECTED[name]
    parameters = list(network.parameters())
    assert sum(parameter.numel() for parameter in parameters) == expected["total"]
    assert len(parameters) == expected["num_parameter_tensors"]
    parts: Counter[str] = Counter()
    for official, module in match_modules(network):
        parts[official.partition(".")[0]] += sum(parameter.numel() for parameter in module.parameters())
    parts["prior_ftr0"] = network.hierarchy.start.value.numel()
    assert parts == expected["by_module"]
    gates = sum(2 for module in network.modules() if isinstance(module, SqueezeExcitation))
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    assert convolutions - gates == expected["num_conv_layers"]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == expected["num_bn_layers"]


def test_the_counts_are_those_of_the_folder() -> None:
    if FOLDER is None or not (FOLDER / "PARAMS.json").is_file():
        pytest.skip("needs the folder that NVAE_CONFORMANCE names, to compare our copy of its counts")
    recipes = json.loads((FOLDER / "PARAMS.json").read_text())["recipes"]
    for name, expected in EXPECTED.items():
        official = recipes[OFFICIAL_NAMES.get(name, name.replace("-", "_"))]
        assert {key: official[key] for key in expected} == expected
