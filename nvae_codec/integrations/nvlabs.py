"""Checkpoints of the official NVAE code, read without running code from them, as recipes and networks of ours.

The file is a zip of pickled tensors; torch's restricted unpickler reads it with ``argparse.Namespace`` as the only
class beyond tensors. The recipe follows from the arguments and the cells' names inside, the weights from the names of
their keys (NVAE's code, model.py). An impossible argument is refused by its name, and so is a key that is left over or
missing. Nothing takes more time or memory than the size of the file allows.
"""

import argparse
import dataclasses
import re
import zipfile
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
from nvae_codec.network.groups import NvaeGroup
from nvae_codec.network.nvae import Nvae
from nvae_codec.network.resample import ResamplingCell
from nvae_codec.recipes.fields import is_within
from nvae_codec.recipes.files import format_recipe, parse_recipe
from nvae_codec.recipes.recipe import CellRecipe, ImageRecipe, LikelihoodRecipe, NetworkRecipe, Recipe, TrainingRecipe

DEFAULTS = {"ada_groups": False, "min_groups_per_scale": 1, "num_mixture_dec": 10, "num_x_bits": 8, "num_nf": 0}
"""Arguments that old checkpoints lack, and what the official code then takes."""
ALIAS = ".weight_normalized"
"""How keys end that some checkpoints have twice."""
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64)
MOST_STEPS = 10**9


@dataclass(frozen=True)
class OfficialCheckpoint:
    """args: the training command's arguments; cells: names of operations by role; state: tensors by official key."""

    args: dict[str, Any]
    cells: dict[str, list[str]]
    state: dict[str, Tensor]
    step: int

    def number(self, name: str, interval: str, default: float | None = None) -> float:
        """An argument. Raises NvaeCodecError with its name where it is missing, no number, or out of the interval."""
        value = self.args.get(name, default)
        if value is None:
            raise NvaeCodecError(f"an official checkpoint without {name}")
        if type(value) not in (bool, int, float):
            raise NvaeCodecError(f"{name} is a {type(value).__name__}, not a number")
        if not is_within(value, interval):
            raise NvaeCodecError(f"{name} = {value if abs(value) < 1e30 else 'a huge number'} is not in {interval}")
        return float(value)

    def integer(self, name: str, interval: str, default: int | None = None) -> int:
        """The same of an integer."""
        value = self.number(name, interval, default)
        if value != int(value):
            raise NvaeCodecError(f"{name} = {value} is not an integer")
        return int(value)

    def flag(self, name: str) -> bool:
        """The same of a switch."""
        return bool(self.integer(name, "[0, 1]"))

    def shape(self, key: str, dims: int) -> torch.Size:
        """The shape of a tensor of so many dimensions. Raises NvaeCodecError with its key where it has another."""
        if key not in self.state:
            raise NvaeCodecError(f"an official checkpoint without {key}")
        shape = self.state[key].shape
        if len(shape) != dims:
            raise NvaeCodecError(f"{key} has {len(shape)} dimensions, not {dims}")
        return shape


def read_official(path: Path) -> OfficialCheckpoint:
    """Read an official checkpoint. Raises NvaeCodecError where the file is none, or holds other classes."""
    what = f"{path}: not a checkpoint of the official code"
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as file:
            if sum(entry.file_size for entry in file.infolist()) > size:
                raise NvaeCodecError(f"{what}: its parts are compressed")
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"args", "arch_instance", "state_dict"} - set(content if isinstance(content, dict) else ())
        if missing:
            raise NvaeCodecError(f"{what}: without {', '.join(sorted(missing))}")
        state = {str(key): value for key, value in content["state_dict"].items() if not str(key).endswith(ALIAS)}
        for key, value in state.items():
            if not isinstance(value, Tensor) or value.layout != torch.strided or value.dtype not in DTYPES:
                raise NvaeCodecError(f"{what}: {key[:100]} is not a dense tensor of floats or counts")
        if sum(value.numel() * value.element_size() for value in state.values()) > size:
            raise NvaeCodecError(f"{what}: its tensors are larger than the file")
        # tensors of one shape may be slices of one storage: each gets its own
        state = {name: value.detach().clone() for name, value in state.items()}
        args, cells = DEFAULTS | vars(content["args"]), dict(content["arch_instance"])
        official = OfficialCheckpoint(args | {"global_step": content.get("global_step", 0)}, cells, state, 0)
        return dataclasses.replace(official, step=official.integer("global_step", f"[0, {MOST_STEPS}]"))
    except (OSError, NvaeCodecError):
        raise
    except Exception:  # torch's words advise to run the code in the file
        raise NvaeCodecError(f"{what}: it does not hold tensors and arguments alone") from None


def adaptive_groups(scales: int, groups: int, minimum: int, *, adaptive: bool) -> list[int]:
    """Groups per scale from the finest: n, n // 2, ... but at least the minimum; n everywhere if not adaptive."""
    return [max(groups >> scale, minimum) if adaptive else groups for scale in range(scales)]


def make_recipe(checkpoint: OfficialCheckpoint, name: str = "imported") -> Recipe:
    """Our recipe of an official model. Raises NvaeCodecError where it has a part that we do not."""
    integer = checkpoint.integer
    blocks = integer("num_preprocess_blocks", "[0, 4]")
    if integer("num_postprocess_blocks", "[0, 4]") != blocks:
        raise NvaeCodecError(
            f"num_postprocess_blocks = {checkpoint.args['num_postprocess_blocks']} differs from {blocks}"
        )
    channels = checkpoint.shape("stem.weight", 4)[1]
    outputs, mixtures = checkpoint.shape("image_conditional.1.weight", 4)[0], integer("num_mixture_dec", "[1, 16]")
    kind = "bernoulli" if outputs == channels else "normal" if mixtures == 1 else "joint"
    groups = adaptive_groups(
        integer("num_latent_scales", "[1, 12]"),
        integer("num_groups_per_scale", "[1, 64]"),
        integer("min_groups_per_scale", "[1, 64]"),
        adaptive=checkpoint.flag("ada_groups"),
    )
    network = NetworkRecipe(
        width=integer("num_channels_enc", "[2, 1024]"),
        decoder_width=integer("num_channels_dec", "[2, 1024]"),
        preprocess_blocks=blocks,
        preprocess_cells=integer("num_preprocess_cells", "[1, 16]"),
        postprocess_cells=integer("num_postprocess_cells", "[1, 16]"),
        groups=groups,
        latents=[integer("num_latent_per_group", "[1, 256]")],
        encoder_cells=integer("num_cell_per_cond_enc", "[1, 16]"),
        decoder_cells=integer("num_cell_per_cond_dec", "[0, 16]"),
        encoder_cell=_cell(checkpoint, "enc", "down"),
        decoder_cell=_cell(checkpoint, "dec", "up"),
        preprocess_cell=_cell(checkpoint, "pre", "down"),
        postprocess_cell=_cell(checkpoint, "post", "up"),
        resampling="residual",
        top_size=checkpoint.shape("prior_ftr0", 3)[-1],
        flows=integer("num_nf", "[0, 4]"),
        residual_normal=checkpoint.flag("res_dist"),
    )
    padding = 2 if kind == "bernoulli" else 0  # images of 28x28 in a network for 32x32
    bits = 8 if kind == "bernoulli" else integer("num_x_bits", "[1, 8]")
    size = network.top_size * network.stride - 2 * padding
    if not 8 <= size <= 4096:
        scales = f"num_latent_scales = {len(groups)} and num_preprocess_blocks = {blocks}"
        raise NvaeCodecError(f"prior_ftr0 of size {network.top_size} with {scales} is for images of {size} pixels")
    recipe = Recipe(
        name=name,
        image=ImageRecipe(channels=channels, bits=bits, padding=padding),
        network=network,
        likelihood=LikelihoodRecipe(kind=kind, tail_edge=0.99, components=mixtures),
        training=_training(checkpoint, size),
    )
    return parse_recipe(format_recipe(recipe))


def _training(checkpoint: OfficialCheckpoint, crop: int) -> TrainingRecipe:
    number, integer = checkpoint.number, checkpoint.integer
    steps = max(1, integer("num_total_iter", f"[0, {MOST_STEPS}]", 1))
    epochs = max(1, integer("epochs", "[0, 1000000]", 1))
    processes = integer("num_process_per_node", "[1, 4096]", 1) * integer("num_proc_node", "[1, 4096]", 1)
    batch = integer("batch_size", "[1, 65536]", 1)
    if batch * processes > 65536:
        raise NvaeCodecError(f"batch_size = {batch} in {processes} processes is more than 65536")
    rate = number("learning_rate", "(0, 1)", 1e-2)
    annealed = "weight_decay_norm_anneal" in checkpoint.args and checkpoint.flag("weight_decay_norm_anneal")
    return TrainingRecipe(
        steps=steps,
        batch=batch * processes,
        crop=crop,
        learning_rate=rate,
        final_learning_rate=min(number("learning_rate_min", "[0, 1)", 1e-4), rate),
        warmup_steps=min(int(number("warmup_epochs", "[0, 1000000]", 5)) * steps // epochs, MOST_STEPS),
        steps_per_epoch=max(1, steps // epochs),
        weight_decay=number("weight_decay", "[0, 1)", 3e-4),
        clip=float("inf"),
        ema=0.0,
        kl_start=number("kl_const_coeff", "[0, 1]", 1e-4),
        kl_hold_fraction=number("kl_const_portion", "[0, 1]", 1e-4),
        kl_warmup_fraction=number("kl_anneal_portion", "[0, 1]", 0.3),
        kl_ramp="floor",
        spectral_weight=number("weight_decay_norm", "[0, 1000]", 0),
        spectral_start=number("weight_decay_norm_init", "[0, 1000]", 10) if annealed else 0.0,
        loss_unit="nats",
        transpose_prob=0.0,
    )


def _cell(checkpoint: OfficialCheckpoint, role: str, step: str) -> CellRecipe:
    """The cell of a role (enc, dec, pre, post) from the names of its operations."""
    names, others = (checkpoint.cells.get(f"{kind}_{role}") for kind in ("normal", step))
    if not isinstance(names, list) or not 1 <= len(names) <= 4 or not all(isinstance(name, str) for name in names):
        raise NvaeCodecError(f"normal_{role} is not a list of 1 to 4 names of operations")
    if others != names:
        raise NvaeCodecError(f"{step}_{role} differs from normal_{role} = {str(names)[:100]}")
    gate = checkpoint.flag("use_se")
    separable = re.fullmatch(r"mconv_e([1-8])k(\d{1,2})g(\d{1,4})", names[0]) if len(names) == 1 else None
    if separable and int(separable[2]) in range(1, 16, 2) and int(separable[3]) <= 1024:
        expansion, kernel, groups = map(int, separable.groups())
        return CellRecipe(
            "separable", kernel, expansion, "batch", "swish", squeeze_excitation=gate, kernel_groups=groups
        )
    regular = [re.fullmatch(r"res_(bnswish|bnelu|elu)(5?)", name) for name in names]
    kinds = {match.group(1) for match in regular if match}
    if None in regular or len(kinds) != 1:
        raise NvaeCodecError(f"cells of {' and '.join(names)[:100]} are not known here")
    kind, dilations = kinds.pop(), [2 if match and match.group(2) else 1 for match in regular]
    normalization = "none" if kind == "elu" else "batch"
    activation = "swish" if kind == "bnswish" else "elu"
    return CellRecipe("regular", 3, 1, normalization, activation, squeeze_excitation=gate, dilations=dilations)


def import_network(checkpoint: OfficialCheckpoint, recipe: Recipe) -> Nvae:
    """The network of an official checkpoint, in evaluation mode. Raises NvaeCodecError by key."""
    cells = count_cells(recipe.network)
    if cells > len(checkpoint.state):  # before they are built, which takes time
        raise NvaeCodecError(f"the arguments describe {cells} cells, but there are {len(checkpoint.state)} tensors")
    with torch.device("meta"):
        network = Nvae(recipe)
    ours = match_keys(network, checkpoint.state)
    for what, keys in (("missing", ours.keys() - checkpoint.state), ("left over", checkpoint.state - ours.keys())):
        if keys:
            raise NvaeCodecError(f"keys {what}: {', '.join(sorted(keys)[:5])[:500]}{' ...' if len(keys) > 5 else ''}")
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


def count_cells(network: NetworkRecipe) -> int:
    """Cells and groups of a network."""
    per_group = 1 + network.encoder_cells + network.decoder_cells
    per_block = network.preprocess_cells + network.postprocess_cells + 2
    return sum(network.groups) * per_group + network.preprocess_blocks * per_block


def match_keys(network: Nvae, state: Mapping[str, Any]) -> dict[str, str]:
    """Our name of every tensor by its official key; ``state`` shows which normalisations are wrapped."""
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
    groups = [cast(NvaeGroup, group) for group in hierarchy.groups]
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
                tower.append(cast(NvaeGroup, groups[len(groups) - count]).merge)
    return tower


def _decoder_tower(network: Nvae) -> list[nn.Module]:
    tower: list[nn.Module] = []
    blocks = network.hierarchy
    for group, step in zip(blocks.groups, blocks.steps, strict=True):
        group = cast(NvaeGroup, group)
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
    if isinstance(cell, ResamplingCell):
        skip = cell.skip[1]
        if isinstance(skip, FactorizedConv2d):
            for index, part in enumerate(skip.parts):
                yield f"{prefix}.skip.conv_{index + 1}", part
        else:
            yield f"{prefix}.skip.1", skip
