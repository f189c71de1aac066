"""Official checkpoints are read without running code from them; what does not fit is named."""

import argparse
import importlib
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nvae_codec.errors import NvaeCodecError
from nvae_codec.integrations.nvlabs import DEFAULTS, import_network, make_recipe, read_official
from nvae_codec.recipes.files import format_recipe, parse_recipe, read_recipe
from nvae_codec.training.checkpoint import load_average
from tests.conformance.official import ARGS, CELLS, make_official, save_official

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


def load(path: Path) -> None:
    official = read_official(path)
    import_network(official, make_recipe(official))


def refuse(path: Path, said: str, content: dict[str, Any]) -> None:
    with pytest.raises(NvaeCodecError, match=said) as error:
        load(save_official(path, content))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def with_args(content: dict[str, Any], **args: Any) -> dict[str, Any]:
    return content | {"args": argparse.Namespace(**(vars(content["args"]) | args))}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    content = make_official({})
    state = content["state_dict"]
    refuse(path, "keys left over: stem.extra", content | {"state_dict": state | {"stem.extra": torch.zeros(1)}})
    less = {key: value for key, value in state.items() if key != "enc0.1.bias"}
    refuse(path, "keys missing: enc0.1.bias", content | {"state_dict": less})
    refuse(path, "stem.bias has the shape", content | {"state_dict": state | {"stem.bias": torch.zeros(7)}})
    refuse(
        path,
        "cells of warp are not known",
        content | {"arch_instance": CELLS | {"normal_dec": ["warp"], "up_dec": ["warp"]}},
    )
    refuse(path, "down_enc differs", content | {"arch_instance": CELLS | {"down_enc": ["res_bnswish"]}})
    refuse(
        path,
        "without num_postprocess_blocks",
        content | {"args": type(content["args"])(num_nf=1, num_preprocess_blocks=1)},
    )
    refuse(path, "without args", {"state_dict": state, "arch_instance": CELLS})
    refuse(path, "it does not hold tensors and arguments alone", content | {"state_dict": [1]})
    refuse(path, "it does not hold tensors and arguments alone", content | {"args": 1})
    refuse(path, "it does not hold tensors and arguments alone", content | {"arch_instance": [1]})


ABSURD: list[Any] = ["x", None, math.nan, math.inf, -1, 1.5, 10**9, 10**400, [1], {}, [[]] * 2]
POSSIBLE = [
    ("warmup_epochs", 1.5), ("weight_decay_norm", 1.5), ("weight_decay_norm_init", 1.5), ("num_total_iter", 10**9),
]  # fmt: skip
OPTIONAL = {
    "learning_rate": 1e-2, "learning_rate_min": 1e-4, "warmup_epochs": 5, "batch_size": 32, "weight_decay": 3e-4,
    "kl_anneal_portion": 0.3, "kl_const_portion": 1e-4, "kl_const_coeff": 1e-4, "weight_decay_norm": 0.0,
    "weight_decay_norm_anneal": True, "weight_decay_norm_init": 10.0, "num_process_per_node": 8, "num_proc_node": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted((ARGS | DEFAULTS | OPTIONAL).keys() - {"dataset"}))
def test_absurd_arguments_are_refused_by_name(name: str, tmp_path: Path) -> None:
    content = with_args(make_official({}), **(DEFAULTS | OPTIONAL | {"num_nf": 1}))
    for value in ABSURD:
        if (name, value) not in POSSIBLE:
            refuse(tmp_path / "checkpoint.pt", name, with_args(content, **{name: value}))


def test_hostile_tensors_are_refused(tmp_path: Path) -> None:
    content, path = make_official({}), tmp_path / "checkpoint.pt"
    for key, value, said in (
        ("stem.weight", torch.zeros(1).expand(10**12), "larger than the file"),
        ("stem.weight", torch.zeros(4, 3, 3, 3).to_sparse(), "not a dense tensor"),
        ("stem.weight", torch.zeros(4, 3, 3, 3, dtype=torch.complex64), "not a dense tensor"),
        ("stem.weight", [1], "not a dense tensor"),
        ("stem.weight", torch.zeros(3), "stem.weight has 1 dimensions, not 4"),
        ("prior_ftr0", torch.zeros(()), "prior_ftr0 has 0 dimensions, not 3"),
        ("prior_ftr0", torch.zeros(16, 1, 300000), "prior_ftr0 of size 300000"),
    ):
        refuse(path, said, content | {"state_dict": content["state_dict"] | {key: value}})
    refuse(
        path, "the arguments describe 2310 cells", with_args(content, num_groups_per_scale=64, num_cell_per_cond_enc=16)
    )
    save_official(path, content)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in whole.infolist():
            bomb.writestr(entry.filename, whole.read(entry) if "data/0" not in entry.filename else bytes(10**7))
    with pytest.raises(NvaeCodecError, match="its parts are compressed"):
        read_official(tmp_path / "bomb.pt")


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04 no checkpoint", bytes(range(64))])
def test_other_files_are_refused_with_our_own_message(data: bytes, tmp_path: Path) -> None:
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
