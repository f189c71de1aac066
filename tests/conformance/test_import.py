"""Official checkpoints are read without running code from them; what does not fit is named."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nvae_codec.errors import NvaeCodecError
from nvae_codec.integrations.nvlabs import import_network, make_recipe, read_official
from nvae_codec.recipes.files import format_recipe, parse_recipe, read_recipe
from nvae_codec.training.checkpoint import load_average
from tests.conformance.official import CELLS, make_official, save_official

REGULAR = ["res_bnelu", "res_bnelu"]
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "the readme's cells": ({}, {}),
    "no flow, no gates, absolute posteriors": ({"num_nf": 0, "use_se": False, "res_dist": False}, {}),
    "two flows, one scale, no blocks": (
        {"num_nf": 2, "num_latent_scales": 1, "num_preprocess_blocks": 0, "num_postprocess_blocks": 0}, {},
    ),
    "another decoder's width, adaptive groups": (
        {"num_channels_dec": 6, "num_groups_per_scale": 4, "ada_groups": True}, {},
    ),
    "separable both": ({}, {"normal_enc": ["mconv_e6k5g0"], "down_enc": ["mconv_e6k5g0"]}),
    "regular both, elu": ({}, {role: REGULAR for role in CELLS if role != "ar_nn"}),
    "dilated": ({}, {"normal_enc": ["res_bnswish5", "res_bnswish"], "down_enc": ["res_bnswish5", "res_bnswish"]}),
    "weight norm alone": ({}, {"normal_enc": ["res_elu", "res_elu"], "down_enc": ["res_elu", "res_elu"]}),
    "groups of eight": ({}, {"normal_dec": ["mconv_e6k3g8"], "up_dec": ["mconv_e6k3g8"]}),
}  # fmt: skip


@pytest.mark.parametrize("which", VARIANTS)
def test_checkpoints_of_many_kinds_become_networks(which: str, tmp_path: Path) -> None:
    args, cells = VARIANTS[which]
    content = make_official(args, CELLS | cells)
    official = read_official(save_official(tmp_path / "checkpoint.pt", content))
    recipe = make_recipe(official, "mine")
    assert parse_recipe(format_recipe(recipe)) == recipe
    network = import_network(official, recipe)
    assert sum(value.numel() for value in network.state_dict().values()) == sum(
        value.numel() for value in content["state_dict"].values()
    )
    with torch.no_grad():
        elbo = network(torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8))
    assert torch.isfinite(elbo.pixels[0])


def test_aliases_may_be_there_and_slices_of_one_storage_too(tmp_path: Path) -> None:
    content = make_official({})
    state = content["state_dict"]
    aliased = {f"{key.removesuffix('.weight')}.weight_normalized": value for key, value in state.items()
               if key.endswith(".conv.3.weight")}  # fmt: skip
    assert aliased
    shared = torch.zeros(2, *state["prior_ftr0"].shape)
    shared[1] = state["prior_ftr0"]
    content["state_dict"] = state | aliased | {"prior_ftr0": shared[1]}
    official = read_official(save_official(tmp_path / "checkpoint.pt", content))
    assert official.state["prior_ftr0"].untyped_storage().nbytes() == shared[1].nbytes
    network = import_network(official, make_recipe(official))
    assert torch.equal(network.hierarchy.start.value[0], shared[1])


class Trap:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("echo harm",)


def test_no_code_is_run(tmp_path: Path) -> None:
    for hostile in (Trap(), {"args": Trap()}, os.system):
        path = tmp_path / "checkpoint.pt"
        torch.save({"state_dict": {}, "args": hostile, "arch_instance": {}}, path)
        with pytest.raises(NvaeCodecError, match="it does not hold tensors and arguments alone"):
            read_official(path)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    def read(content: dict[str, Any]) -> None:
        official = read_official(save_official(tmp_path / "checkpoint.pt", content))
        import_network(official, make_recipe(official))

    def refuse(said: str, content: dict[str, Any]) -> None:
        with pytest.raises(NvaeCodecError, match=said) as error:
            read(content)
        assert "\n" not in str(error.value)

    content = make_official({})
    state = content["state_dict"]
    refuse("keys left over: stem.extra", content | {"state_dict": state | {"stem.extra": torch.zeros(1)}})
    less = {key: value for key, value in state.items() if key != "enc0.1.bias"}
    refuse("keys missing: enc0.1.bias", content | {"state_dict": less})
    refuse("stem.bias has the shape", content | {"state_dict": state | {"stem.bias": torch.zeros(7)}})
    refuse(
        "cells of warp are not known", content | {"arch_instance": CELLS | {"normal_dec": ["warp"], "up_dec": ["warp"]}}
    )
    refuse("down_enc = .* differs", content | {"arch_instance": CELLS | {"down_enc": ["res_bnswish"]}})
    refuse("without num_groups_per_scale", content | {"args": type(content["args"])(num_nf=1, num_preprocess_blocks=1)})
    refuse("without args", {"state_dict": state, "arch_instance": CELLS})
    refuse("it does not hold tensors and arguments alone", content | {"state_dict": [1]})
    refuse("it does not hold tensors and arguments alone", content | {"args": 1})
    refuse("it does not hold tensors and arguments alone", content | {"arch_instance": [1]})


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04 no checkpoint", bytes(range(64))])
def test_what_is_no_checkpoint_is_refused_in_words_of_ours(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "noise.pt"
    path.write_bytes(data)
    with pytest.raises(NvaeCodecError) as error:
        read_official(path)
    said = "not a checkpoint of the official code: it does not hold tensors and arguments alone"
    assert str(error.value) == f"{path}: {said}"


def test_the_command_makes_a_run(tmp_path: Path) -> None:
    command = importlib.import_module("nvae_codec.cli.import_nvlabs").import_nvlabs_command
    path, run = save_official(tmp_path / "checkpoint.pt", make_official({})), tmp_path / "mine"
    result = CliRunner().invoke(command, [str(path), "-o", str(run)])
    assert result.exit_code == 0, result.output
    assert "mine, " in result.output
    recipe, network, done = load_average(run)
    assert read_recipe(run / "recipe.toml") == recipe
    assert done == {"step": 40, "seconds": 0.0, "imported": "checkpoint.pt"}
    official = read_official(path)
    assert torch.equal(network.hierarchy.encoder.stem.weight, official.state["stem.weight"])
    again = CliRunner().invoke(command, [str(path), "-o", str(run)])
    assert isinstance(again.exception, NvaeCodecError)
