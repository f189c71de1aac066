"""Checkpoints of the official NVAE code, read without running code from them, as recipes and networks of ours.

The file is a zip of pickled tensors; torch's restricted unpickler reads it with ``argparse.Namespace`` as the only
class beyond tensors. The recipe follows from the arguments and the cells' names inside, the weights from the names of
their keys (NVAE's code, model.py); a key that is left over or missing is an error by name.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nvae_codec.errors import NvaeCodecError
from nvae_codec.network.cells import ResidualCell, SqueezeExcitation
from nvae_codec.network.convolution import FactorizedConv2d, WeightNormConv2d
from nvae_codec.network.flow import Shift
from nvae_codec.network.groups import Group
from nvae_codec.network.nvae import Nvae
from nvae_codec.network.steps import SteppingCell
from nvae_codec.recipes.files import format_recipe, parse_recipe
from nvae_codec.recipes.recipe import CellRecipe, ImageRecipe, LikelihoodRecipe, NetworkRecipe, Recipe, TrainingRecipe

DEFAULTS = {"ada_groups": False, "min_groups_per_scale": 1, "num_mixture_dec": 10, "num_x_bits": 8, "num_nf": 0}
"""Arguments that old checkpoints lack, and what the official code then takes."""


@dataclass(frozen=True)
class OfficialCheckpoint:
    """args: the training command's arguments; cells: names of operations by role; state: tensors by official key."""

    args: dict[str, Any]
    cells: dict[str, list[str]]
    state: dict[str, Tensor]
    step: int


def read_official(path: Path) -> OfficialCheckpoint:
    """Read an official checkpoint. Raises NvaeCodecError where the file is none, or holds other classes."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"args", "arch_instance", "state_dict"} - set(content if isinstance(content, dict) else ())
        if missing:
            raise NvaeCodecError(f"{path}: not a checkpoint of the official code: without {', '.join(sorted(missing))}")
        # tensors of one shape may be slices of one storage: each gets its own
        state = {name: value.detach().clone() for name, value in content["state_dict"].items()}
        args, cells = DEFAULTS | vars(content["args"]), dict(content["arch_instance"])
        return OfficialCheckpoint(args, cells, state, int(content.get("global_step", 0)))
    except (OSError, NvaeCodecError):
        raise
    except Exception:  # torch's words advise to run the code in the file
        raise NvaeCodecError(
            f"{path}: not a checkpoint of the official code: it does not hold tensors and arguments alone"
        ) from None


def adaptive_groups(scales: int, groups: int, minimum: int, *, adaptive: bool) -> list[int]:
    """Groups a scale from the finest: n, n // 2, n // 4, ... but at least the minimum; n everywhere if not adaptive."""
    return [max(groups >> scale, minimum) if adaptive else groups for scale in range(scales)]


def make_recipe(checkpoint: OfficialCheckpoint, name: str = "imported") -> Recipe:
    """Our recipe of an official model. Raises NvaeCodecError where it has a part that we do not."""
    args, state = checkpoint.args, checkpoint.state
    try:
        blocks, groups = int(args["num_preprocess_blocks"]), int(args["num_groups_per_scale"])
        if int(args["num_postprocess_blocks"]) != blocks:
            raise NvaeCodecError(f"num_postprocess_blocks = {args['num_postprocess_blocks']} differs from {blocks}")
        channels, padding = state["stem.weight"].shape[1], 0
        outputs, mixtures = state["image_conditional.1.weight"].shape[0], int(args["num_mixture_dec"])
        kind = "bernoulli" if outputs == channels else "normal" if mixtures == 1 else "joint"
        if kind == "bernoulli":  # images of 28x28 in a network for 32x32
            padding = 2
        network = NetworkRecipe(
            width=int(args["num_channels_enc"]),
            decoder_width=int(args["num_channels_dec"]),
            preprocess_blocks=blocks,
            preprocess_cells=int(args["num_preprocess_cells"]),
            postprocess_cells=int(args["num_postprocess_cells"]),
            groups=adaptive_groups(
                int(args["num_latent_scales"]),
                groups,
                int(args["min_groups_per_scale"]),
                adaptive=bool(args["ada_groups"]),
            ),
            latents=[int(args["num_latent_per_group"])],
            encoder_cells=int(args["num_cell_per_cond_enc"]),
            decoder_cells=int(args["num_cell_per_cond_dec"]),
            encoder_cell=_cell(checkpoint, "enc", "down"),
            decoder_cell=_cell(checkpoint, "dec", "up"),
            preprocess_cell=_cell(checkpoint, "pre", "down"),
            postprocess_cell=_cell(checkpoint, "post", "up"),
            resampling="residual",
            top_size=state["prior_ftr0"].shape[-1],
            flows=int(args["num_nf"]),
            residual_normal=bool(args["res_dist"]),
        )
        recipe = Recipe(
            name=name,
            image=ImageRecipe(
                channels=channels,
                bits=8 if kind == "bernoulli" else int(args["num_x_bits"]),
                padding=padding,
            ),
            network=network,
            likelihood=LikelihoodRecipe(kind=kind, tail_edge=0.99, components=max(mixtures, 1)),
            training=_training(args, network.top_size * network.stride - 2 * padding),
        )
    except KeyError as error:
        raise NvaeCodecError(f"an official checkpoint without {error.args[0]}") from None
    return parse_recipe(format_recipe(recipe))


def _training(args: dict[str, Any], crop: int) -> TrainingRecipe:
    def number(name: str, default: float) -> float:
        return float(args.get(name, default))

    steps, epochs = max(1, int(number("num_total_iter", 1))), max(1, int(number("epochs", 1)))
    processes = int(number("num_process_per_node", 1)) * int(number("num_proc_node", 1))
    rate, spectral = number("learning_rate", 1e-2), number("weight_decay_norm", 0)
    return TrainingRecipe(
        steps=steps,
        batch=int(number("batch_size", 1)) * processes,
        crop=crop,
        learning_rate=rate,
        final_learning_rate=min(number("learning_rate_min", 1e-4), rate),
        warmup_steps=int(number("warmup_epochs", 5)) * steps // epochs,
        steps_per_epoch=max(1, steps // epochs),
        weight_decay=number("weight_decay", 3e-4),
        clip=float("inf"),
        ema=0.0,
        kl_start=number("kl_const_coeff", 1e-4),
        kl_hold_fraction=number("kl_const_portion", 1e-4),
        kl_warmup_fraction=number("kl_anneal_portion", 0.3),
        kl_ramp="floor",
        spectral_weight=spectral,
        spectral_start=number("weight_decay_norm_init", 10) if args.get("weight_decay_norm_anneal") else 0.0,
        loss_unit="nats",
        transpose_prob=0.0,
    )


def _cell(checkpoint: OfficialCheckpoint, role: str, step: str) -> CellRecipe:
    """The cell of a role (enc, dec, pre, post) from the names of its operations."""
    names = list(checkpoint.cells[f"normal_{role}"])
    if list(checkpoint.cells[f"{step}_{role}"]) != names:
        raise NvaeCodecError(
            f"{step}_{role} = {checkpoint.cells[f'{step}_{role}']} differs from normal_{role} = {names}"
        )
    gate = bool(checkpoint.args["use_se"])
    separable = re.fullmatch(r"mconv_e(\d+)k(\d+)g(\d+)", names[0]) if len(names) == 1 else None
    if separable:
        expansion, kernel, groups = map(int, separable.groups())
        return CellRecipe(
            "separable", kernel, expansion, "batch", "swish", squeeze_excitation=gate, kernel_groups=groups
        )
    regular = [re.fullmatch(r"res_(bnswish|bnelu|elu)(5?)", name) for name in names]
    kinds = {match.group(1) for match in regular if match}
    if None in regular or len(kinds) != 1:
        raise NvaeCodecError(f"cells of {' and '.join(names)} are not known here")
    kind, dilations = kinds.pop(), [2 if match and match.group(2) else 1 for match in regular]
    normalization = "none" if kind == "elu" else "batch"
    activation = "swish" if kind == "bnswish" else "elu"
    return CellRecipe("regular", 3, 1, normalization, activation, squeeze_excitation=gate, dilations=dilations)


def import_network(checkpoint: OfficialCheckpoint, recipe: Recipe) -> Nvae:
    """The network of an official checkpoint, in evaluation mode. Raises NvaeCodecError by key."""
    with torch.device("meta"):
        network = Nvae(recipe)
    ours = match_keys(network, checkpoint.state)
    aliases = {key for key in checkpoint.state if key.endswith(".weight_normalized")}
    for what, keys in (
        ("missing", ours.keys() - checkpoint.state),
        ("left over", checkpoint.state - ours.keys() - aliases),
    ):
        if keys:
            raise NvaeCodecError(f"keys {what}: {', '.join(sorted(keys)[:5])}{' ...' if len(keys) > 5 else ''}")
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    state = {}
    for key, name in ours.items():
        value = checkpoint.state[key]
        if value.numel() != shapes[name].numel():
            raise NvaeCodecError(f"{key} has the shape {tuple(value.shape)}, not {tuple(shapes[name])}")
        state[name] = value.reshape(shapes[name])
    network = Nvae(recipe)
    network.load_state_dict(state)
    return network.eval()


def match_keys(network: Nvae, state: Mapping[str, Any]) -> dict[str, str]:
    """Our name of every tensor by its official key; ``state`` tells which normalisations are wrapped."""
    names = {module: name for name, module in network.named_modules()}
    ours = {"prior_ftr0": "hierarchy.start.value"}
    for official, module in match_modules(network):
        for key, entry in _entries(module, state, official):
            ours[key] = f"{names[module]}.{entry}"
    return ours


def _entries(module: nn.Module, state: Mapping[str, Any], official: str) -> Iterator[tuple[str, str]]:
    """Official key and our entry of each tensor of a leaf module."""
    if isinstance(module, nn.BatchNorm2d) and f"{official}.weight" not in state:
        official += ".bn"  # some are wrapped, some are not
    for entry in module.state_dict():
        yield f"{official}.{entry}", entry


def match_modules(network: Nvae) -> Iterator[tuple[str, nn.Module]]:
    """The official name of every convolution and normalisation of ours."""
    hierarchy, encoder = network.hierarchy, network.hierarchy.encoder
    groups = [cast(Group, group) for group in hierarchy.groups]
    yield "stem", encoder.stem
    yield from _match_cells("pre_process", list(encoder.preprocess))
    yield from _match_cells("enc_tower", _encoder_tower(network))
    yield "enc0.1", cast(nn.Sequential, encoder.top)[1]
    for index, group in enumerate(groups):
        yield f"enc_sampler.{index}", group.posterior_head
        if group.prior_head is not None:
            yield f"dec_sampler.{index - 1}.1", group.prior_head[1]
        for pair, flow in enumerate(group.flows):
            for half, shift in enumerate(cast(nn.Sequential, flow)):
                prefix = f"nf_cells.{index * len(group.flows) + pair}.cell{half + 1}"
                mean = cast(Shift, shift).mean
                yield f"{prefix}.conv.convz.0", mean[0]
                yield f"{prefix}.conv.convz.2", mean[2]
                yield f"{prefix}.mu.conv_0", mean[5]
    yield from _match_cells("dec_tower", _decoder_tower(network))
    yield from _match_cells("post_process", list(hierarchy.postprocess))
    yield "image_conditional.1", cast(nn.Module, network.likelihood.out)


def _encoder_tower(network: Nvae) -> list[nn.Module]:
    """Cells and, where its group follows, the convolution that merges the decoder's state, bottom-up."""
    encoder, groups = network.hierarchy.encoder, network.hierarchy.groups
    tower: list[nn.Module] = []
    count = 0
    for scale, in_scale in enumerate(encoder.groups):
        if scale:
            tower.append(encoder.steps[scale - 1])
        for _ in range(in_scale):
            tower += list(cast(nn.Sequential, encoder.towers[count]))
            count += 1
            if count < len(groups):
                tower.append(cast(Group, groups[len(groups) - count]).merge)
    return tower


def _decoder_tower(network: Nvae) -> list[nn.Module]:
    tower: list[nn.Module] = []
    blocks = network.hierarchy
    for group, step in zip(blocks.groups, blocks.steps, strict=True):
        group = cast(Group, group)
        tower += [*group.cells, group.combine]
        if not isinstance(step, nn.Identity):
            tower.append(step)
    return tower


def _match_cells(prefix: str, modules: list[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    for index, module in enumerate(modules):
        if isinstance(module, nn.Conv2d):
            yield f"{prefix}.{index}.conv", module
        else:
            yield from _match_cell(f"{prefix}.{index}", cast(ResidualCell, module))


def _match_cell(prefix: str, cell: ResidualCell) -> Iterator[tuple[str, nn.Module]]:
    leaves = [module for module in cell.body if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    if any(isinstance(module, WeightNormConv2d) for module in leaves):  # a regular cell
        operation = 0
        for module in leaves:
            if isinstance(module, nn.Conv2d):
                yield f"{prefix}._ops.{operation}.conv_0", module
                operation += 1
            else:
                swish = any(isinstance(layer, nn.SiLU) for layer in cell.body)
                yield f"{prefix}._ops.{operation}.{'bn_act' if swish else 'bn'}", module
    else:
        first = 1 if isinstance(cell.body[0], nn.Upsample) else 0
        places = ["{0}", "{1}.conv.0", "{1}.conv.1", "{2}.conv.0", "{2}.conv.1", "{3}", "{4}"]
        for place, module in zip(places, leaves, strict=True):
            yield f"{prefix}._ops.0.conv." + place.format(*range(first, first + 5)), module
    for gate in cell.body:
        if isinstance(gate, SqueezeExcitation):
            yield f"{prefix}.se.se.0", gate.squeeze
            yield f"{prefix}.se.se.2", gate.excite
    if isinstance(cell, SteppingCell):
        skip = cell.skip[1]
        if isinstance(skip, FactorizedConv2d):
            for index, part in enumerate(skip.parts):
                yield f"{prefix}.skip.conv_{index + 1}", part
        else:
            yield f"{prefix}.skip.1", skip
