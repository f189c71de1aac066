"""A run's state on disk: a folder with recipe.toml, checkpoint.safetensors and log.jsonl. No pickle anywhere."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nvae_codec.errors import DamagedFileError, NvaeCodecError, UnknownModelError
from nvae_codec.network.likelihood import PhasedHeads
from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.files import format_recipe, parse_recipe
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.zoo.library import MODELS_FOLDER

FILE = "checkpoint.safetensors"
FORMAT = "nvae-codec run 1"


class Average:
    """Exponential moving average of weights and buffers, whose decay is smaller in the first steps."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network after a step of the optimizer."""
        share = max(1 - self.decay, 10 / (step + 10))
        current = network.state_dict()
        floats = [name for name, value in self.state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[n] for n in floats], [current[n].detach() for n in floats], share)
        for name in self.state.keys() - set(floats):
            self.state[name].copy_(current[name])


def save_checkpoint(
    run: Path,
    recipe: Recipe,
    network: nn.Module,
    average: Average,
    optimizer: torch.optim.Optimizer,
    done: dict[str, Any],
    more: Mapping[str, Tensor] | None = None,
) -> None:
    """Write everything that an exact resume needs, under a temporary name first.

    ``done``: step, seconds, bits/dim; ``more``: further state by name.
    """
    tensors: dict[str, Tensor] = {f"network.{n}": v for n, v in network.state_dict().items()}
    tensors |= {f"average.{n}": v for n, v in average.state.items()}
    tensors |= more or {}
    names = [name for name, _ in network.named_parameters()]
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{names[index]}.{key}": torch.as_tensor(value) for key, value in state.items()}
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"format": FORMAT, "recipe": format_recipe(recipe), "done": json.dumps(done)}
    write_tensors(run / FILE, contiguous, metadata)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write contiguous tensors and metadata with their checksum, under a temporary name first.

    If that fails, for example on a full disk, the earlier file is unchanged, and the temporary one is removed.
    """
    part = path.with_name(path.name + ".part")
    try:
        save_file(tensors, str(part), metadata | {"checksum": _checksum(tensors, metadata)})
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # before renaming: otherwise a power cut may leave the name without the bytes
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """The XXH3-64, in hexadecimal, of everything in a checkpoint except its checksum."""
    digest = xxhash.xxh3_64()
    for key in sorted(metadata.keys() - {"checksum"}):
        digest.update(f"{key} {metadata[key]}\n".encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)  # numpy has no bfloat16
    return digest.hexdigest()


def find_checkpoint(run: str | Path) -> Path:
    """The checkpoint of a run: of its folder, the file itself, or of a shipped model by its name.

    Raises UnknownModelError where there is none.
    """
    path = Path(run) if Path(run).exists() else MODELS_FOLDER / run
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        return file
    why = f"no {FILE}: installed models come without float weights" if path.is_dir() else "no such run or model"
    raise UnknownModelError(f"{run}: {why}; give a run of nvae-codec train, or models/NAME in a clone")


def read_checkpoint(run: str | Path) -> tuple[Recipe, dict[str, Tensor], dict[str, Any]]:
    """A run's recipe, tensors and progress (step, seconds, ...); ``run`` as for :func:`find_checkpoint`.

    Raises DamagedFileError if the checksum is wrong, NvaeCodecError if it is not a checkpoint.
    """
    path = find_checkpoint(run)
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:
        raise NvaeCodecError(f"{path}: not a checkpoint: {error}") from None
    if metadata.get("format") != FORMAT:
        raise NvaeCodecError(f"{path}: not a checkpoint of a training run")
    if metadata.get("checksum") != _checksum(tensors, metadata):
        raise DamagedFileError(f"{path}: damaged: its checksum is wrong")
    return parse_recipe(metadata["recipe"]), tensors, json.loads(metadata["done"])


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def restore_optimizer(optimizer: torch.optim.Optimizer, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Restore an optimizer's moments from a checkpoint."""
    states: dict[int, dict[str, Tensor]] = {}
    for index, (name, parameter) in enumerate(network.named_parameters()):
        found = part_of(tensors, f"optimizer.{name}.")
        # names may be prefixes of one another: the moments have no dot in theirs
        states[index] = {
            # in the memory layout of the weights, with which the optimizer is fast
            key: torch.empty_like(parameter).copy_(value) if key != "step" else value
            for key, value in found.items()
            if "." not in key
        }
    kept = {index: state for index, state in states.items() if state}
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def copy_weights(network: nn.Module, run: Path, prefix: str = "") -> int:
    """Copy another run's averaged weights, those whose names begin with ``prefix`` and whose names and shapes match.

    Returns the number of tensors. Raises NvaeCodecError if there are none.
    """
    _, tensors, _ = read_checkpoint(run)
    own = network.state_dict()
    found = {
        name: value
        for name, value in part_of(tensors, "average.").items()
        if name.startswith(prefix) and name in own and own[name].shape == value.shape
    }
    if not found:
        raise NvaeCodecError(f"{run}: it has no weights that fit" + (f" below {prefix}" if prefix else ""))
    network.load_state_dict(found, strict=False)
    heads = getattr(network, "likelihood", None)
    if isinstance(heads, PhasedHeads) and not any(name.startswith("likelihood.experts.") for name in found):
        heads.start_experts()
    return len(found)


def load_average(run: str | Path) -> tuple[Recipe, Nvae, dict[str, Any]]:
    """Recipe, network with the moving average of the weights in evaluation mode, which is exported, and progress."""
    recipe, tensors, done = read_checkpoint(run)
    network = Nvae(recipe)
    network.load_state_dict(part_of(tensors, "average."))
    return recipe, network.eval(), done
