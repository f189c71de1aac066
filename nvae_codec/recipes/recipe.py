"""A model described in TOML: what the network is, what its likelihood is, how it was trained.

A recipe is a tree of frozen dataclasses. Unknown keys, wrong types and impossible values are refused with the name of
the field and its line of explanation, so that a typing error never becomes a silently different model. Defaults of the
components of NVAE that came later keep the network of earlier recipes; models/recipes has the official values.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from nvae_codec.errors import RecipeError
from nvae_codec.recipes.fields import build, explained, require, write_table
from nvae_codec.recipes.histories import HistoriesRecipe, check_histories
from nvae_codec.recipes.pyramid import missing_for_pyramid

ACTIVATIONS = ("swish", "hard_swish", "elu", "relu", "gelu")


@dataclass(frozen=True)
class ImageRecipe:
    """The images: what one dimension of bits/dim is."""

    channels: int = explained(3, "colours of a pixel: 1 or 3")
    bits: int = explained(8, "bits of a colour value, 1 to 8: below 8 the lowest are dropped, as the official code")
    colour_order: str = explained("rgb", "order in which the colours of a pixel condition one another: rgb, grb, ...")
    binarization: str = explained(
        "none", "none, static (a value of 128 and more is 1) or dynamic (a value v is 1 with probability v / 255)"
    )
    padding: int = explained(0, "rows and columns of zeros on each side that the network sees and nobody codes: 0 to 8")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        require(self.channels in (1, 3), self, "channels")
        require(1 <= self.bits <= 8, self, "bits")
        require(sorted(self.colour_order) == sorted("rgb"), self, "colour_order")
        require(self.binarization in ("none", "static", "dynamic"), self, "binarization")
        require(0 <= self.padding <= 8, self, "padding")


@dataclass(frozen=True)
class CellRecipe:
    """A residual cell (NVAE, section 3.1, figure 3)."""

    kind: str = explained(
        "separable",
        "regular (3x3, 3x3), separable (1x1, depthwise, 1x1), depthwise (depthwise, 1x1, 1x1) or "
        "bottleneck (1x1, 3x3, 3x3, 1x1; Very Deep VAE, figure 3)",
    )
    kernel: int = explained(5, "side of the depthwise kernel, odd")
    expansion: int = explained(6, "how many times wider the cell is inside, 1 to 8; a bottleneck is narrower")
    normalization: str = explained("batch", "batch or none")
    activation: str = explained("swish", "swish, hard_swish, elu, relu or gelu")
    squeeze_excitation: bool = explained(True, "whether a gate weighs the channels at the end")
    residual_scale: float = explained(0.1, "factor of the branch before it is added to its input")
    kernel_groups: int = explained(0, "groups of a separable cell's wide convolution; 0: depthwise, one a channel")
    dilations: list[int] = explained([1, 1], "a 3x3 convolution of a regular cell each: its dilation, 1 to 4")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        require(self.kind in ("regular", "separable", "depthwise", "bottleneck"), self, "kind")
        require(self.kernel % 2 == 1 and 1 <= self.kernel <= 15, self, "kernel")
        require(0 <= self.kernel_groups <= 1024, self, "kernel_groups")
        require(
            1 <= len(self.dilations) <= 4 and all(1 <= dilation <= 4 for dilation in self.dilations), self, "dilations"
        )
        require(1 <= self.expansion <= 8, self, "expansion")
        require(self.normalization in ("batch", "none"), self, "normalization")
        require(self.activation in ACTIVATIONS, self, "activation")
        require(0 < self.residual_scale <= 1, self, "residual_scale")


@dataclass(frozen=True)
class NetworkRecipe:
    """The hierarchy: bottom-up encoder, top-down decoder, groups of latents on several scales (NVAE, section 3)."""

    patch: int = explained(1, "side of the squares of pixels that the stem folds into channels: 1, 2, 4 or 8")
    width: int = explained(32, "channels at the stem")
    width_growth: int = explained(2, "factor of the width at each halving of the side: 1 or 2")
    preprocess_blocks: int = explained(1, "halvings between the stem and the finest latents")
    preprocess_cells: int = explained(2, "cells of such a block; the last is the step down")
    postprocess_cells: int = explained(0, "cells of a block above the finest latents; 0: as preprocess_cells")
    decoder_width: int = explained(0, "channels of the decoder at the stem's resolution; 0: as width")
    groups: list[int] = explained(
        [2, 2], "groups of latents a scale, from the finest scale to the coarsest, which has one at least"
    )
    latents: list[int] = explained([20], "channels of latents in a group: one number, or one a scale like groups")
    group: str = explained(
        "nvae",
        "nvae (cells, then heads; NVAE, figure 2) or very_deep (a bottleneck each for prior, posterior and state)",
    )
    scale_widths: list[int] = explained([], "channels a scale, the finest first; empty: from width and width_growth")
    scale_cells: list[int] = explained(
        [], "cells a scale, bottom-up, whose last all groups of the scale read (Very Deep VAE); empty: encoder_cells"
    )
    encoder_cells: int = explained(2, "cells a group, bottom-up")
    decoder_cells: int = explained(2, "cells a group, top-down")
    encoder_cell: CellRecipe = field(default_factory=lambda: CellRecipe(kind="regular"))
    decoder_cell: CellRecipe = field(default_factory=CellRecipe)
    preprocess_cell: CellRecipe | None = field(
        default=None, metadata={"help": "cell between the stem and the finest latents; without it encoder_cell"}
    )
    postprocess_cell: CellRecipe | None = field(
        default=None, metadata={"help": "cell above the finest latents; without it decoder_cell"}
    )
    steps: str = explained(
        "plain",
        "how the side halves and doubles: plain (3x3 of stride 2, pixels from channels), residual (NVAE: cells with "
        "factorised and bilinear skips) or nearest (Very Deep VAE: means, and pixels repeated)",
    )
    weight_normalization: bool = explained(
        False, "weight normalisation of all convolutions but those of separable and depthwise cells"
    )
    stem_activation: bool = explained(True, "whether an activation follows the stem")
    head_activation: str = explained("", "activation before the prior's and the image's heads; empty: decoder_cell's")
    top_convolution: bool = explained(False, "1x1 convolution between ELUs before the top posterior, as official")
    top_side: int = explained(
        0, "side of the trained map on which the decoder starts, for images of one size; 0: a value a channel"
    )
    flows: int = explained(0, "pairs of inverse autoregressive flows a group, 0 to 4 (NVAE, section 3.2)")
    residual_normal: bool = explained(True, "posterior relative to the prior (NVAE, section 3.2)")
    posterior_reads_prior: bool = explained(
        False, "whether the posterior's head sees the prior that it is relative to (groups of the kind nvae)"
    )
    pyramid_start: bool = explained(
        False, "whether training starts with latents that carry the image's pixels, coarse to fine (docs/training.md)"
    )
    scaled_start: bool = explained(
        False, "whether residual branches start smaller by the root of their number (Very Deep VAE, section 3)"
    )
    posterior_log_sigma: float = explained(0.0, "initial log sigma of the posterior relative to the prior")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        require(self.patch in (1, 2, 4, 8), self, "patch")
        require((2 if self.steps == "residual" else 4) <= self.width <= 1024, self, "width")
        require(self.width_growth in (1, 2), self, "width_growth")
        require(0 <= self.preprocess_blocks <= 4, self, "preprocess_blocks")
        require(1 <= self.preprocess_cells <= 16, self, "preprocess_cells")
        scales = len(self.groups)
        require(1 <= scales <= 12 and all(0 <= n <= 64 for n in self.groups) and self.groups[-1] > 0, self, "groups")
        require(self.group in ("nvae", "very_deep"), self, "group")
        require(
            len(self.scale_cells) in (0, scales) and all(0 <= n <= 64 for n in self.scale_cells), self, "scale_cells"
        )
        widths = self.scale_widths
        require(len(widths) in (0, scales) and all(1 <= n <= 1024 for n in widths), self, "scale_widths")
        # with blocks before them, or another width at the stem, the finest scale would have two widths
        require(
            not widths or (not self.preprocess_blocks and widths[0] == self.decoder_channels == self.width),
            self,
            "scale_widths",
        )
        require(
            len(self.latents) in (1, len(self.groups)) and all(1 <= n <= 256 for n in self.latents), self, "latents"
        )
        require(0 <= self.postprocess_cells <= 16, self, "postprocess_cells")
        require(self.decoder_width == 0 or 1 <= self.decoder_width <= 1024, self, "decoder_width")
        require(self.steps in ("plain", "residual", "nearest"), self, "steps")
        require(self.head_activation in ("", *ACTIVATIONS), self, "head_activation")
        require(0 <= self.top_side <= 1024, self, "top_side")
        require(0 <= self.flows <= 4, self, "flows")
        require(1 <= self.encoder_cells <= 16, self, "encoder_cells")
        require(0 <= self.decoder_cells <= 16, self, "decoder_cells")
        require(-6 <= self.posterior_log_sigma <= 2, self, "posterior_log_sigma")
        require(self.group == "nvae" or not self.posterior_reads_prior, self, "posterior_reads_prior")

    def latents_of_scale(self, scale: int) -> int:
        """Channels of latents in each group of a scale; scale 0 is the finest."""
        return self.latents[scale if len(self.latents) > 1 else 0]

    def encoder_width(self, halvings: int) -> int:
        """Channels of the encoder so many halvings below the stem."""
        return self.scale_widths[halvings] if self.scale_widths else self.width * self.width_growth**halvings

    def decoder_width_at(self, halvings: int) -> int:
        """Channels of the decoder so many halvings below the stem."""
        return self.scale_widths[halvings] if self.scale_widths else self.decoder_channels * self.width_growth**halvings

    @property
    def decoder_channels(self) -> int:
        """Channels of the features that the likelihood reads."""
        return self.decoder_width or self.width

    @property
    def stride(self) -> int:
        """Pixels a step of the coarsest latents: sides of what the network sees are multiples of it."""
        return self.patch << (self.preprocess_blocks + len(self.groups) - 1)

    @property
    def latent_strides(self) -> list[int]:
        """Pixels a step of each group's latents, from the top."""
        return [self.stride >> above for above, count in enumerate(reversed(self.groups)) for _ in range(count)]


@dataclass(frozen=True)
class LikelihoodRecipe:
    """p(x | z): a mixture of logistics in one or several phases, the official one, a Bernoulli (docs/likelihood.md)."""

    kind: str = explained(
        "colourwise",
        "colourwise (mixtures of logistics, one a colour), joint (the official one: the colours of a pixel share their "
        "component), normal (official, one density instead of a mixture) or bernoulli",
    )
    tail_edge: float = explained(
        0.999, "of a joint mixture: values above it, in [-1, 1], take the whole tail; 0.99 officially, where 254 is one"
    )
    components: int = explained(10, "logistics of a mixture, 1 to 16")
    levels: int = explained(0, "levels of the pyramid of phases; 0: all pixels at once from the latents")
    head_width: int = explained(48, "channels of a phase's head")
    head_cells: int = explained(2, "cells of a phase's head")
    head_features: int = explained(16, "channels that a phase's head sees of the decoder's features")
    bounded_colour: bool = explained(True, "tanh around the colour coefficients, as the official code")
    mean_scale: float = explained(1.0, "factor of the predicted means: small ones start as the neighbours' mean")
    experts: int = explained(1, "complete sets of the heads after the base; encoding chooses one per image, 1 to 8")

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        require(self.kind in ("colourwise", "joint", "normal", "bernoulli"), self, "kind")
        require(0.9 < self.tail_edge < 1, self, "tail_edge")
        require(1 <= self.components <= 16, self, "components")
        require(0 <= self.levels <= 3, self, "levels")
        require(4 <= self.head_width <= 256, self, "head_width")
        require(1 <= self.head_cells <= 16, self, "head_cells")
        require(1 <= self.head_features <= 256, self, "head_features")
        require(0 < self.mean_scale <= 1, self, "mean_scale")
        require(1 <= self.experts <= 8, self, "experts")


@dataclass(frozen=True)
class TrainingRecipe:
    """How the model is trained (NVAE, section 3.2 and appendix A)."""

    steps: int = explained(10_000, "steps of the whole run")
    batch: int = explained(8, "crops a step")
    crop: int = explained(64, "side of a crop in pixels, a multiple of the network's stride")
    optimizer: str = explained("adamax", "adamax or adamw")
    rate: float = explained(1e-2, "highest learning rate")
    warmup_steps: int = explained(200, "steps in which the rate rises from 0")
    decay_share: float = explained(1.0, "last share of the steps, in which the rate falls to final_rate along a cosine")
    final_rate: float = explained(1e-5, "learning rate at the end")
    weight_decay: float = explained(3e-4, "weight decay")
    clip: float = explained(2.0, "largest norm of the gradient; larger ones are scaled down; inf: never")
    ema: float = explained(0.999, "decay of the moving average of the weights, which is what is frozen")
    kl_start: float = explained(1e-4, "weight of the KL at the first step")
    kl_warmup_share: float = explained(0.3, "share of the steps in which that weight rises to 1")
    kl_hold_share: float = explained(0.0, "share of the steps at kl_start before it rises")
    kl_ramp: str = explained(
        "start", "start (rises from kl_start) or floor (from 0 and never below kl_start, as official)"
    )
    kl_balancing: bool = explained(True, "balance the KL of the groups while its weight is below 1 (NVAE, appendix A)")
    hierarchy_first_share: float = explained(0.0, "share of the steps with the first phase's pixels alone")
    spectral_weight: float = explained(
        0.0, "weight of the sum of largest singular values and of batch norms' largest scales (NVAE, section 3.2)"
    )
    spectral_start: float = explained(0.0, "that weight at first; it changes geometrically with the KL's. 0: constant")
    loss_unit: str = explained(
        "bits", "bits (a dimension) or nats (an image, officially): weighs the loss against weight decay and clip"
    )
    epoch_steps: int = explained(
        0, "steps of an epoch, at whose end alone the rate falls, as official; 0: at each step"
    )
    mirror_share: float = explained(0.5, "share of the crops that are mirrored, left to right")
    transpose_share: float = explained(0.25, "share of the crops with rows and columns exchanged")
    downsample: list[int] = explained(
        [1], "times that images are shrunk before they are cropped, one of these at random: 1 to 32 each"
    )
    shift: float = explained(0.0, "standard deviation of a crop's random shift in pixels; zeros come in")
    rotate: float = explained(0.0, "that of its rotation in degrees")
    scale: float = explained(0.0, "that of the logarithm of its scale, along each axis")
    shear: float = explained(0.0, "that of its shear")
    seed: int = explained(0, "seed of weights, crops and noise")
    histories: HistoriesRecipe | None = field(
        default=None, metadata={"help": "what happens to images before they are cropped; without it nothing"}
    )

    def check(self) -> None:
        """Raise RecipeError where a value is impossible."""
        require(self.steps >= 1, self, "steps")
        require(1 <= self.batch <= 65536, self, "batch")
        require(8 <= self.crop <= 4096, self, "crop")
        require(self.optimizer in ("adamax", "adamw"), self, "optimizer")
        require(0 < self.rate < 1, self, "rate")
        require(self.warmup_steps >= 0, self, "warmup_steps")
        require(0 <= self.decay_share <= 1, self, "decay_share")
        require(0 <= self.final_rate <= self.rate, self, "final_rate")
        require(0 <= self.weight_decay < 1, self, "weight_decay")
        require(self.clip > 0, self, "clip")
        require(0 <= self.ema < 1, self, "ema")
        require(0 <= self.kl_start <= 1, self, "kl_start")
        require(0 <= self.kl_warmup_share <= 1, self, "kl_warmup_share")
        require(0 <= self.kl_hold_share <= 1, self, "kl_hold_share")
        require(self.kl_ramp in ("start", "floor"), self, "kl_ramp")
        require(0 <= self.spectral_weight <= 1000, self, "spectral_weight")
        require(0 <= self.spectral_start <= 1000, self, "spectral_start")
        require(self.loss_unit in ("bits", "nats"), self, "loss_unit")
        require(self.epoch_steps >= 0, self, "epoch_steps")
        require(0 <= self.hierarchy_first_share < 1, self, "hierarchy_first_share")
        require(0 <= self.mirror_share <= 1, self, "mirror_share")
        require(0 <= self.transpose_share <= 1, self, "transpose_share")
        require(1 <= len(self.downsample) <= 32 and all(1 <= n <= 32 for n in self.downsample), self, "downsample")
        require(0 <= self.shift <= 64, self, "shift")
        require(0 <= self.rotate <= 180, self, "rotate")
        require(0 <= self.scale <= 1, self, "scale")
        require(0 <= self.shear <= 1, self, "shear")


@dataclass(frozen=True)
class Recipe:
    """A whole model. Read one with :func:`read_recipe`."""

    name: str = explained("unnamed", "the model's name: letters, digits, '-' and '_'")
    image: ImageRecipe = field(default_factory=ImageRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    likelihood: LikelihoodRecipe = field(default_factory=LikelihoodRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)

    def check(self) -> None:
        """Raise RecipeError where values do not fit together."""
        plain = self.name.replace("-", "").replace("_", "")
        require(plain.isascii() and plain.isalnum(), self, "name")
        require((self.training.crop + 2 * self.image.padding) % self.stride == 0, self.training, "crop", "training.")
        self._check_likelihood()
        check_histories(self)
        network = self.network
        if network.pyramid_start and (wanted := missing_for_pyramid(network, self.likelihood, self.image)):
            raise RecipeError(f"network.pyramid_start needs {wanted}")
        if network.steps == "residual":
            cells: list[tuple[str, CellRecipe | None]] = [("encoder_cell", network.encoder_cell)]
            cells += [("decoder_cell", network.decoder_cell), ("preprocess_cell", network.preprocess_cell)]
            cells.append(("postprocess_cell", network.postprocess_cell))
            for name, cell in cells:
                if cell is not None and cell.kind not in ("regular", "separable"):
                    raise RecipeError(
                        f"network.steps = 'residual' needs network.{name}.kind = 'regular' or 'separable'"
                    )

    def _check_likelihood(self) -> None:
        image, likelihood, network = self.image, self.likelihood, self.network
        kind = likelihood.kind
        if image.channels != 3 and kind in ("colourwise", "joint"):
            raise RecipeError(
                f"image.channels = {image.channels} does not fit likelihood.kind = '{kind}', of 3 colours"
            )
        if image.bits != 8 and kind == "colourwise":
            raise RecipeError(f"image.bits = {image.bits} does not fit likelihood.kind = 'colourwise', of 8 bits")
        if (image.binarization != "none") != (kind == "bernoulli"):
            raise RecipeError(f"image.binarization = '{image.binarization}' does not fit likelihood.kind = '{kind}'")
        if likelihood.levels:
            if kind != "colourwise" or image.padding:
                raise RecipeError("likelihood.levels needs likelihood.kind = 'colourwise' and image.padding = 0")
            fine = network.patch * 2**network.preprocess_blocks
            # the hierarchy's features feed the phases at the resolution of the first phase's pixels
            if network.patch != 2**likelihood.levels:
                raise RecipeError(
                    f"likelihood.levels = {likelihood.levels} needs network.patch = {2**likelihood.levels}: "
                    f"the first phase's pixels lie on the stem's grid (now {network.patch}, finest latents {fine})"
                )

    @property
    def stride(self) -> int:
        """Sides of what the network sees are multiples of this many pixels."""
        return self.network.stride


def parse_recipe(text: str) -> Recipe:
    """Read a recipe from the text of a TOML file. Raises RecipeError with the field that is wrong."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"not TOML: {error}") from None
    recipe: Recipe = build(Recipe, table, "")
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
    write_table(recipe, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"
