"""A model described in TOML: what the network is, what its likelihood is, how it was trained.

A recipe is a tree of frozen dataclasses. Unknown keys, wrong types and impossible values are refused with the name of
the field and its line of explanation, so that a typing error never becomes a silently different model.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvae_codec.errors import RecipeError


def _explained(default: Any, text: str) -> Any:
    """A field with its line of explanation, shown when a value is refused."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ImageRecipe:
    """The pictures: what one dimension of bits/dim is."""

    channels: int = _explained(3, "colours of a pixel: 3")
    bits: int = _explained(8, "bits of a colour value: 8")
    colour_order: str = _explained("rgb", "order in which the colours of a pixel condition one another: rgb, grb, ...")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        _require(self.channels == 3, self, "channels")
        _require(self.bits == 8, self, "bits")
        _require(sorted(self.colour_order) == sorted("rgb"), self, "colour_order")


@dataclass(frozen=True)
class CellRecipe:
    """A residual cell (NVAE, section 3.1, figure 3)."""

    kind: str = _explained(
        "separable", "regular (two 3x3), separable (1x1, depthwise, 1x1) or depthwise (depthwise, 1x1, 1x1)"
    )
    kernel: int = _explained(5, "side of the depthwise kernel, odd")
    expansion: int = _explained(6, "how many times wider the cell is inside, 1 to 8")
    normalization: str = _explained("batch", "batch or none")
    activation: str = _explained("swish", "swish, hard_swish, elu or relu")
    squeeze_excitation: bool = _explained(True, "whether a gate weighs the channels at the end")
    residual_scale: float = _explained(0.1, "factor of the branch before it is added to its input")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        _require(self.kind in ("regular", "separable", "depthwise"), self, "kind")
        _require(self.kernel % 2 == 1 and 1 <= self.kernel <= 15, self, "kernel")
        _require(1 <= self.expansion <= 8, self, "expansion")
        _require(self.normalization in ("batch", "none"), self, "normalization")
        _require(self.activation in ("swish", "hard_swish", "elu", "relu"), self, "activation")
        _require(0 < self.residual_scale <= 1, self, "residual_scale")


@dataclass(frozen=True)
class NetworkRecipe:
    """The hierarchy: bottom-up encoder, top-down decoder, groups of latents on several scales (NVAE, section 3)."""

    patch: int = _explained(1, "side of the squares of pixels that the stem folds into channels: 1, 2, 4 or 8")
    width: int = _explained(32, "channels at the stem")
    width_growth: int = _explained(2, "factor of the width at each halving of the side: 1 or 2")
    preprocess_blocks: int = _explained(1, "halvings between the stem and the finest latents")
    preprocess_cells: int = _explained(2, "cells of such a block; the last is the step down")
    groups: list[int] = _explained([2, 2], "groups of latents a scale, from the finest scale to the coarsest")
    latents: list[int] = _explained([20], "channels of latents in a group: one number, or one a scale like groups")
    encoder_cells: int = _explained(2, "cells a group, bottom-up")
    decoder_cells: int = _explained(2, "cells a group, top-down")
    encoder_cell: CellRecipe = field(default_factory=lambda: CellRecipe(kind="regular"))
    decoder_cell: CellRecipe = field(default_factory=CellRecipe)
    residual_normal: bool = _explained(True, "posterior relative to the prior (NVAE, section 3.2)")
    posterior_log_sigma: float = _explained(0.0, "initial log sigma of the posterior relative to the prior")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        _require(self.patch in (1, 2, 4, 8), self, "patch")
        _require(4 <= self.width <= 1024, self, "width")
        _require(self.width_growth in (1, 2), self, "width_growth")
        _require(0 <= self.preprocess_blocks <= 4, self, "preprocess_blocks")
        _require(1 <= self.preprocess_cells <= 16, self, "preprocess_cells")
        _require(1 <= len(self.groups) <= 8 and all(1 <= n <= 64 for n in self.groups), self, "groups")
        _require(
            len(self.latents) in (1, len(self.groups)) and all(1 <= n <= 256 for n in self.latents), self, "latents"
        )
        _require(1 <= self.encoder_cells <= 16, self, "encoder_cells")
        _require(0 <= self.decoder_cells <= 16, self, "decoder_cells")
        _require(-6 <= self.posterior_log_sigma <= 2, self, "posterior_log_sigma")

    def latents_of_scale(self, scale: int) -> int:
        """Channels of latents in each group of a scale; scale 0 is the finest."""
        return self.latents[scale if len(self.latents) > 1 else 0]

    @property
    def stride(self) -> int:
        """Pixels a step of the coarsest latents: sides of what the network sees are multiples of it."""
        return self.patch << (self.preprocess_blocks + len(self.groups) - 1)


@dataclass(frozen=True)
class LikelihoodRecipe:
    """A discretised mixture of logistics, all pixels at once or in phases (docs/likelihood.md)."""

    components: int = _explained(10, "logistics of a mixture, 1 to 16")
    levels: int = _explained(0, "levels of the pyramid of phases; 0: all pixels at once from the latents")
    head_width: int = _explained(48, "channels of a phase's head")
    head_cells: int = _explained(2, "cells of a phase's head")
    head_features: int = _explained(16, "channels that a phase's head sees of the decoder's features")
    bounded_colour: bool = _explained(True, "tanh around the colour coefficients, as the official code")
    mean_scale: float = _explained(1.0, "factor of the predicted means: small ones start as the neighbours' mean")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        _require(1 <= self.components <= 16, self, "components")
        _require(0 <= self.levels <= 3, self, "levels")
        _require(4 <= self.head_width <= 256, self, "head_width")
        _require(1 <= self.head_cells <= 16, self, "head_cells")
        _require(1 <= self.head_features <= 256, self, "head_features")
        _require(0 < self.mean_scale <= 1, self, "mean_scale")


@dataclass(frozen=True)
class TrainingRecipe:
    """How the model is trained (NVAE, section 3.2 and appendix A)."""

    steps: int = _explained(10_000, "steps of the whole run")
    batch: int = _explained(8, "crops a step")
    crop: int = _explained(64, "side of a crop in pixels, a multiple of the network's stride")
    optimizer: str = _explained("adamax", "adamax or adamw")
    rate: float = _explained(1e-2, "highest learning rate")
    warmup_steps: int = _explained(200, "steps in which the rate rises from 0")
    decay_share: float = _explained(
        1.0, "last share of the steps, in which the rate falls to final_rate along a cosine"
    )
    final_rate: float = _explained(1e-5, "learning rate at the end")
    weight_decay: float = _explained(3e-4, "weight decay")
    clip: float = _explained(2.0, "largest norm of the gradient; larger ones are scaled down")
    ema: float = _explained(0.999, "decay of the moving average of the weights, which is what is frozen")
    kl_start: float = _explained(1e-4, "weight of the KL at the first step")
    kl_warmup_share: float = _explained(0.3, "share of the steps in which that weight rises to 1")
    kl_balancing: bool = _explained(True, "balance the KL of the groups while its weight is below 1 (NVAE, appendix A)")
    hierarchy_first_share: float = _explained(0.0, "share of the steps with the first phase's pixels alone")
    transpose_share: float = _explained(0.25, "share of the crops with rows and columns exchanged")
    seed: int = _explained(0, "seed of weights, crops and noise")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        _require(self.steps >= 1, self, "steps")
        _require(1 <= self.batch <= 65536, self, "batch")
        _require(8 <= self.crop <= 4096, self, "crop")
        _require(self.optimizer in ("adamax", "adamw"), self, "optimizer")
        _require(0 < self.rate < 1, self, "rate")
        _require(self.warmup_steps >= 0, self, "warmup_steps")
        _require(0 <= self.decay_share <= 1, self, "decay_share")
        _require(0 <= self.final_rate <= self.rate, self, "final_rate")
        _require(0 <= self.weight_decay < 1, self, "weight_decay")
        _require(self.clip > 0, self, "clip")
        _require(0 <= self.ema < 1, self, "ema")
        _require(0 <= self.kl_start <= 1, self, "kl_start")
        _require(0 <= self.kl_warmup_share <= 1, self, "kl_warmup_share")
        _require(0 <= self.hierarchy_first_share < 1, self, "hierarchy_first_share")
        _require(0 <= self.transpose_share <= 1, self, "transpose_share")


@dataclass(frozen=True)
class Recipe:
    """A whole model. Read one with :func:`read_recipe`."""

    name: str = _explained("unnamed", "the model's name: letters, digits, '-' and '_'")
    image: ImageRecipe = field(default_factory=ImageRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    likelihood: LikelihoodRecipe = field(default_factory=LikelihoodRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)

    def check(self) -> None:
        """Raise RecipeError where values do not fit together."""
        plain = self.name.replace("-", "").replace("_", "")
        _require(plain.isascii() and plain.isalnum(), self, "name")
        _require(self.training.crop % self.stride == 0, self.training, "crop", "training.")
        if self.likelihood.levels:
            fine = self.network.patch * 2**self.network.preprocess_blocks
            # the hierarchy's features feed the phases at the resolution of the first phase's pixels
            if self.network.patch != 2**self.likelihood.levels:
                raise RecipeError(
                    f"likelihood.levels = {self.likelihood.levels} needs network.patch = {2**self.likelihood.levels}: "
                    f"the first phase's pixels lie on the stem's grid (now {self.network.patch}, finest latents {fine})"
                )

    @property
    def stride(self) -> int:
        """Sides of what the network sees are multiples of this many pixels."""
        return self.network.stride


def _require(condition: bool, owner: Any, name: str, prefix: str = "") -> None:
    if not condition:
        text = next(f.metadata.get("help", "") for f in dataclasses.fields(owner) if f.name == name)
        raise RecipeError(f"{prefix}{name} = {getattr(owner, name)!r} is not possible: {text}")


def parse_recipe(text: str) -> Recipe:
    """Read a recipe from the text of a TOML file. Raises RecipeError with the field that is wrong."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"not TOML: {error}") from None
    recipe: Recipe = _build(Recipe, table, "")
    return recipe


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file. Raises RecipeError (with the file's name) or OSError."""
    try:
        return parse_recipe(Path(path).read_text(encoding="utf-8"))
    except (RecipeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from None


def format_recipe(recipe: Recipe) -> str:
    """Write a recipe as TOML that :func:`parse_recipe` reads back equal."""
    lines: list[str] = []
    _write_table(recipe, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _write_table(node: Any, prefix: str, lines: list[str]) -> None:
    tables = []
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            tables.append((f"{prefix}{item.name}", value))
        else:
            text = {True: "true", False: "false"}[value] if isinstance(value, bool) else None
            lines.append(
                f"{item.name} = {text or (chr(34) + value + chr(34) if isinstance(value, str) else repr(value))}"
            )
    for name, value in tables:
        lines += ["", f"[{name}]"]
        _write_table(value, name + ".", lines)


def _build(kind: type, table: dict[str, Any], prefix: str) -> Any:
    known = {item.name: item for item in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in table.items():
        if name not in known:
            raise RecipeError(f"unknown key {prefix}{name}; here are: {', '.join(known)}")
        values[name] = _convert(hints[name], value, f"{prefix}{name}", known[name].metadata.get("help", ""))
    built = kind(**values)
    try:
        built.check()
    except RecipeError as error:
        raise RecipeError(f"{prefix}{error}") from None
    return built


def _convert(hint: Any, value: Any, name: str, text: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise RecipeError(f"{name} is a table: [{name}]")
        return _build(typing.cast(type, hint), value, name + ".")
    if isinstance(hint, types.GenericAlias):
        if isinstance(value, list) and all(type(entry) is int for entry in value):
            return value
    elif (hint is float and type(value) in (int, float)) or type(value) is hint:
        return hint(value)
    raise RecipeError(f"{name} = {value!r} has the wrong type: {text}")
