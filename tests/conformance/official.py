"""A small checkpoint in the official code's form, made here: random weights under official names."""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nvae_codec.integrations.nvlabs import DEFAULTS, OfficialCheckpoint, make_recipe, match_modules
from nvae_codec.network.nvae import Nvae

ARGS: dict[str, Any] = {
    "dataset": "cifar10", "num_latent_scales": 2, "num_groups_per_scale": 2, "num_latent_per_group": 3,
    "num_channels_enc": 4, "num_channels_dec": 4, "num_preprocess_blocks": 1, "num_preprocess_cells": 2,
    "num_postprocess_blocks": 1, "num_postprocess_cells": 2, "num_cell_per_cond_enc": 1, "num_cell_per_cond_dec": 1,
    "use_se": True, "res_dist": True, "num_nf": 1, "num_x_bits": 8, "epochs": 4, "num_total_iter": 40,
}  # fmt: skip
CELLS = {
    "normal_enc": ["res_bnswish", "res_bnswish"], "down_enc": ["res_bnswish", "res_bnswish"],
    "normal_dec": ["mconv_e6k5g0"], "up_dec": ["mconv_e6k5g0"], "normal_pre": ["res_bnswish", "res_bnswish"],
    "down_pre": ["res_bnswish", "res_bnswish"], "normal_post": ["mconv_e3k5g0"], "up_post": ["mconv_e3k5g0"],
    "ar_nn": [""],
}  # fmt: skip


def make_official(args: dict[str, Any], cells: dict[str, list[str]] = CELLS, side: int = 16) -> dict[str, Any]:
    """What the official code saves, for images of ``side`` pixels and 3 colours."""
    args = ARGS | args
    top = side >> (args["num_preprocess_blocks"] + args["num_latent_scales"] - 1)
    stub: dict[str, Tensor] = {
        "prior_ftr0": torch.zeros(1, top, top), "stem.weight": torch.zeros(1, 3, 3, 3),
        "image_conditional.1.weight": torch.zeros(100, 1, 1, 1),
    }  # fmt: skip
    recipe = make_recipe(OfficialCheckpoint(DEFAULTS | args, cells, stub, 0))
    torch.manual_seed(0)
    network = Nvae(recipe)
    state: dict[str, Tensor] = {"prior_ftr0": torch.randn(network.hierarchy.start.value.shape[1:])}
    for official, module in match_modules(network):
        plain = isinstance(module, nn.BatchNorm2d) and re.search(r"_ops\.0\.conv\.\d$", official)
        wrapped = ".bn" if plain else ""
        for entry, value in module.state_dict().items():
            linear = ".se.se." in official and entry == "weight"
            state[f"{official}{wrapped}.{entry}"] = (value.flatten(1) if linear else value).clone()
    return {
        "epoch": 4, "state_dict": state, "optimizer": {}, "global_step": 40, "args": argparse.Namespace(**args),
        "arch_instance": cells, "scheduler": {}, "grad_scalar": {},
    }  # fmt: skip


def save_official(path: Path, content: dict[str, Any]) -> Path:
    torch.save(content, path)
    return path
