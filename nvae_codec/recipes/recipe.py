"""A model described as frozen dataclasses: what its images, its network and its likelihood are, how it is trained.

Unknown keys, wrong types and impossible values are refused by the name of their field and its help, so that a typing
error never becomes a silently different model. :mod:`nvae_codec.recipes.files` reads and writes them as TOML.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nvae_codec.likelihoods.registry import LIKELIHOODS
from nvae_codec.recipes.fields import option
from nvae_codec.recipes.histories import HistoriesRecipe

ACTIVATIONS = ("swish", "hard_swish", "elu", "relu", "gelu")
GROUPS = ("nvae", "very_deep")
"""Kinds of groups of latents; their classes are in :mod:`nvae_codec.network.groups`."""


@dataclass(frozen=True)
class ImageRecipe:
    """The images: what one dimension of bits/dim is."""

    channels: int = option(3, "colours of a pixel", among=(1, 3))
    bits: int = option(8, "bits of a colour value: below 8 the lowest are dropped, as in the official code", "[1, 8]")
    colour_order: str = option(
        "rgb", "order in which the colours of a pixel condition one another",
        among=("rgb", "rbg", "grb", "gbr", "brg", "bgr"),
    )  # fmt: skip
    padding: int = option(0, "rows and columns of zeros on each side that the network sees and nobody codes", "[0, 8]")


@dataclass(frozen=True)
class CellRecipe:
    """A residual cell (NVAE, section 3.1, figure 3)."""

    kind: str = option(
        "separable",
        "regular (3x3, 3x3), separable (1x1, depthwise, 1x1), depthwise (depthwise, 1x1, 1x1) or "
        "bottleneck (1x1, 3x3, 3x3, 1x1; Very Deep VAE, figure 3)",
        among=("regular", "separable", "depthwise", "bottleneck"),
    )
    kernel: int = option(5, "size of the depthwise kernel", among=tuple(range(1, 16, 2)))
    expansion: int = option(6, "how many times wider the cell is inside; a bottleneck is narrower", "[1, 8]")
    normalization: str = option("batch", "normalization before each convolution", among=("batch", "none"))
    activation: str = option("swish", "activation", among=ACTIVATIONS)
    squeeze_excitation: bool = option(True, "whether a gate weighs the channels at the end")
    residual_scale: float = option(0.1, "factor of the branch before it is added to its input", "(0, 1]")
    kernel_groups: int = option(0, "groups of a separable cell's wide convolution; 0: depthwise", "[0, 1024]")
    dilations: list[int] = option(
        [1, 1], "dilation of each 3x3 convolution of a regular cell", "[1, 4]", length="[1, 4]"
    )


@dataclass(frozen=True)
class NetworkRecipe:
    """The hierarchy: bottom-up encoder, top-down decoder, groups of latents on several scales (NVAE, section 3)."""

    patch: int = option(1, "size of the squares of pixels that the stem folds into channels", among=(1, 2, 4, 8))
    width: int = option(32, "channels at the stem", "[2, 1024]")
    width_growth: int = option(2, "factor of the width at each downsampling", among=(1, 2))
    preprocess_blocks: int = option(1, "blocks that downsample between the stem and the finest latents", "[0, 4]")
    preprocess_cells: int = option(2, "cells of such a block; the last one downsamples", "[1, 16]")
    postprocess_cells: int = option(
        0, "cells of a block above the finest latents; 0: as many as preprocess_cells", "[0, 16]"
    )
    decoder_width: int = option(
        0, "channels of the decoder at the stem's resolution; 0: the same as width", "[0, 1024]"
    )
    groups: list[int] = option(
        [2, 2], "groups of latents per scale, from the finest to the coarsest, which has at least one",
        "[0, 64]", length="[1, 12]",
    )  # fmt: skip
    latents: list[int] = option(
        [20], "channels of latents per group: one number, or one per scale", "[1, 256]", length="[1, 12]"
    )
    group: str = option(
        "nvae",
        "nvae (cells, then heads; NVAE, figure 2) or very_deep (a bottleneck each for prior, posterior and state)",
        among=GROUPS,
    )
    scale_widths: list[int] = option(
        [], "channels per scale, the finest first; empty: from width and width_growth", "[1, 1024]"
    )
    scale_cells: list[int] = option(
        [], "cells per scale, bottom-up, whose output all its groups read (Very Deep VAE); empty: encoder_cells",
        "[0, 64]",
    )  # fmt: skip
    encoder_cells: int = option(2, "cells per group, bottom-up", "[1, 16]")
    decoder_cells: int = option(2, "cells per group, top-down", "[0, 16]")
    encoder_cell: CellRecipe = option(CellRecipe(kind="regular"), "cell of the encoder")
    decoder_cell: CellRecipe = option(CellRecipe(), "cell of the decoder")
    preprocess_cell: CellRecipe | None = option(
        None, "cell between the stem and the finest latents; without it encoder_cell"
    )
    postprocess_cell: CellRecipe | None = option(None, "cell above the finest latents; without it decoder_cell")
    resampling: str = option(
        "plain",
        "plain (convolutions of stride 2, pixels from channels), residual (NVAE: cells with factorized and bilinear "
        "skips, weight normalization, ELUs before the heads) or nearest (Very Deep VAE: averages, repeated pixels)",
        among=("plain", "residual", "nearest"),
    )
    top_size: int = option(
        0, "size of the trained map on which the decoder starts, for images of one size; 0: one value per channel",
        "[0, 1024]",
    )  # fmt: skip
    flows: int = option(0, "pairs of inverse autoregressive flows per group (NVAE, section 3.2)", "[0, 4]")
    residual_normal: bool = option(True, "posterior relative to the prior (NVAE, section 3.2)")
    posterior_reads_prior: bool = option(
        False, "whether the posterior's head sees the prior that it is relative to (groups of kind nvae)"
    )
    pyramid_start: bool = option(
        False, "whether training starts with latents that carry the image's pixels, coarse to fine (docs/training.md)"
    )
    posterior_log_sigma: float = option(0.0, "initial log sigma of the posterior relative to the prior", "[-6, 2]")

    def faults(self) -> Iterator[str]:
        """What is wrong with the table as a whole, one line each."""
        scales = len(self.groups)
        if not self.groups[-1]:
            yield f"groups = {self.groups} has no group on the coarsest scale"
        for name, lengths in (("latents", (1, scales)), ("scale_cells", (0, scales)), ("scale_widths", (0, scales))):
            if len(getattr(self, name)) not in lengths:
                yield f"{name} = {getattr(self, name)} does not have {scales} numbers, one per scale of groups"
        # with blocks before them, or another width at the stem, the finest scale would have two widths
        if self.scale_widths and (
            self.preprocess_blocks or not self.scale_widths[0] == self.decoder_channels == self.width
        ):
            yield f"scale_widths = {self.scale_widths} needs preprocess_blocks = 0 and begins with width"
        if self.resampling != "residual" and self.width < 4:
            yield f"width = {self.width} is not in [4, 1024]"
        if self.group != "nvae" and self.posterior_reads_prior:
            yield "posterior_reads_prior = True needs group = 'nvae'"
        yield from self._cell_faults()

    def _cell_faults(self) -> Iterator[str]:
        cells = {"encoder_cell": self.encoder_cell, "preprocess_cell": self.below_latents}
        cells |= {"decoder_cell": self.decoder_cell, "postprocess_cell": self.above_latents}
        for name, cell in cells.items():
            if self.resampling == "residual" and cell.kind not in ("regular", "separable"):
                yield f"resampling = 'residual' needs {name}.kind = 'regular' or 'separable'"
            encodes = name in ("encoder_cell", "preprocess_cell")
            widths = self.scale_widths or [self.width if encodes else self.decoder_channels]
            if cell.kind == "separable" and any(width * cell.expansion % (cell.kernel_groups or 1) for width in widths):
                yield f"{name}.kernel_groups = {cell.kernel_groups} does not divide its channels, width * expansion"

    @property
    def is_official(self) -> bool:
        """Whether details are those of the official code, which come with its way of resampling.

        All convolutions but those of separable and depthwise cells have normalized weights, no activation follows the
        stem, ELUs stand before the heads, and a 1x1 convolution between ELUs before the top posterior.
        """
        return self.resampling == "residual"

    @property
    def stem_activation(self) -> bool:
        """Whether an activation follows the stem; latents that begin as pixels need the stem's signs."""
        return self.resampling == "plain" and not self.pyramid_start

    @property
    def head_activation(self) -> str:
        """The activation before the heads of the prior and of the image."""
        return "elu" if self.is_official else self.decoder_cell.activation

    @property
    def below_latents(self) -> CellRecipe:
        """The cell between the stem and the finest latents."""
        return self.preprocess_cell or self.encoder_cell

    @property
    def above_latents(self) -> CellRecipe:
        """The cell above the finest latents."""
        return self.postprocess_cell or self.decoder_cell

    def latents_of_scale(self, scale: int) -> int:
        """Channels of latents in each group of a scale; scale 0 is the finest."""
        return self.latents[scale if len(self.latents) > 1 else 0]

    def encoder_width(self, halvings: int) -> int:
        """Channels of the encoder after so many downsamplings of the stem."""
        return self.scale_widths[halvings] if self.scale_widths else self.width * self.width_growth**halvings

    def decoder_width_at(self, halvings: int) -> int:
        """Channels of the decoder at the same place."""
        return self.scale_widths[halvings] if self.scale_widths else self.decoder_channels * self.width_growth**halvings

    @property
    def decoder_channels(self) -> int:
        """Channels of the features that the likelihood reads."""
        return self.decoder_width or self.width

    @property
    def stride(self) -> int:
        """Pixels between neighbours of the coarsest latents; the network sees sizes that are multiples of it."""
        return self.patch << (self.preprocess_blocks + len(self.groups) - 1)

    @property
    def latent_strides(self) -> list[int]:
        """Pixels between neighbours of each group's latents, from the top."""
        return [self.stride >> above for above, count in enumerate(reversed(self.groups)) for _ in range(count)]


@dataclass(frozen=True)
class LikelihoodRecipe:
    """p(x | z): a mixture of logistics in one or several phases, the official one, a Bernoulli (docs/likelihood.md)."""

    kind: str = option(
        "colourwise",
        ", ".join(f"{name} ({facts.about})" for name, facts in LIKELIHOODS.items()),
        among=tuple(LIKELIHOODS),
    )
    tail_edge: float = option(
        0.999, "of a joint mixture: values above it, in [-1, 1], take the whole tail; officially 0.99, below 254",
        "(0.9, 1)",
    )  # fmt: skip
    components: int = option(10, "components of a mixture", "[1, 16]")
    scales: int = option(0, "scales of the pyramid of phases; 0: all pixels at once from the latents", "[0, 3]")
    head_width: int = option(48, "channels of a phase's head", "[4, 256]")
    head_cells: int = option(2, "cells of a phase's head", "[1, 16]")
    head_features: int = option(16, "channels that a phase's head sees of the decoder's features", "[1, 256]")
    mean_scale: float = option(1.0, "factor of the predicted means: small ones start as the neighbours' mean", "(0, 1]")
    experts: int = option(1, "complete sets of the heads after the base; encoding chooses one per image", "[1, 8]")


@dataclass(frozen=True)
class TrainingRecipe:
    """How the model is trained (NVAE, section 3.2 and appendix A)."""

    steps: int = option(10_000, "optimizer steps of the whole run", "[1, 1e9]")
    batch: int = option(8, "crops per step", "[1, 65536]")
    crop: int = option(64, "size of a crop in pixels, a multiple of the network's stride", "[8, 4096]")
    optimizer: str = option("adamax", "optimizer", among=("adamax", "adamw", "muon"))
    learning_rate: float = option(1e-2, "highest learning rate", "(0, 1)")
    warmup_steps: int = option(200, "steps in which the learning rate rises from 0", "[0, 1e9]")
    decay_fraction: float = option(
        1.0,
        "last fraction of the steps, in which the learning rate falls to final_learning_rate along a cosine",
        "[0, 1]",
    )
    final_learning_rate: float = option(1e-5, "learning rate at the end", "[0, 1)")
    weight_decay: float = option(3e-4, "weight decay", "[0, 1)")
    clip: float = option(2.0, "largest norm of the gradient; larger ones are scaled down; inf: never", "(0, inf]")
    ema: float = option(0.999, "decay of the moving average of the weights, which is what is exported", "[0, 1)")
    kl_start: float = option(1e-4, "weight of the KL at the first step", "[0, 1]")
    kl_warmup_fraction: float = option(0.3, "fraction of the steps in which that weight rises to 1", "[0, 1]")
    kl_hold_fraction: float = option(0.0, "fraction of the steps at kl_start before it rises", "[0, 1]")
    kl_ramp: str = option(
        "start", "start (rises from kl_start) or floor (from 0 and never below kl_start, as in the official code)",
        among=("start", "floor"),
    )  # fmt: skip
    kl_balancing: bool = option(True, "balance the KL of the groups while its weight is below 1 (NVAE, appendix A)")
    base_first_fraction: float = option(0.0, "fraction of the steps with the pixels of the first phase alone", "[0, 1)")
    experts_alone: bool = option(False, "train the experts after the first, and keep all other weights")
    spectral_weight: float = option(
        0.0, "weight of the sum of largest singular values and of batch norms' largest scales (NVAE, section 3.2)",
        "[0, 1000]",
    )  # fmt: skip
    spectral_start: float = option(
        0.0, "that weight at first; it changes geometrically with the KL's. 0: constant", "[0, 1000]"
    )
    loss_unit: str = option(
        "bits", "bits (per dimension) or nats (per image, as officially): weighs the loss against weight decay",
        among=("bits", "nats"),
    )  # fmt: skip
    steps_per_epoch: int = option(
        0, "steps of an epoch, at whose end alone the learning rate falls, as in the official code; 0: at each step",
        "[0, 1e9]",
    )  # fmt: skip
    hflip_prob: float = option(0.5, "probability that a crop is flipped, left to right", "[0, 1]")
    transpose_prob: float = option(0.25, "probability that rows and columns of a crop are exchanged", "[0, 1]")
    downsample: list[int] = option(
        [1], "factors by which images are shrunk before they are cropped, one of these at random", "[1, 32]",
        length="[1, 32]",
    )  # fmt: skip
    shift: float = option(0.0, "standard deviation of a crop's random shift in pixels; zeros come in", "[0, 64]")
    rotate: float = option(0.0, "that of its rotation in degrees", "[0, 180]")
    scale: float = option(0.0, "that of the logarithm of its scale, along each axis", "[0, 1]")
    shear: float = option(0.0, "that of its shear", "[0, 1]")
    seed: int = option(0, "seed of weights, crops and noise", "[0, 9e18]")
    histories: HistoriesRecipe | None = option(
        None, "what happens to images before they are cropped; without it nothing"
    )

    def faults(self) -> Iterator[str]:
        """What is wrong with the table as a whole."""
        if self.final_learning_rate > self.learning_rate:
            yield f"final_learning_rate = {self.final_learning_rate} is above learning_rate = {self.learning_rate}"


@dataclass(frozen=True)
class Recipe:
    """A whole model."""

    name: str = option("unnamed", "the model's name: letters, digits, '-' and '_'")
    image: ImageRecipe = option(ImageRecipe(), "the images")
    network: NetworkRecipe = option(NetworkRecipe(), "the hierarchy of latents")
    likelihood: LikelihoodRecipe = option(LikelihoodRecipe(), "the likelihood of pixels")
    training: TrainingRecipe = option(TrainingRecipe(), "the training")

    @property
    def stride(self) -> int:
        """The network sees images whose sizes are multiples of this many pixels."""
        return self.network.stride

    @property
    def is_binary(self) -> bool:
        """Whether pixels are drawn as 0 or 1, a value v being 1 with probability v / 255."""
        return LIKELIHOODS[self.likelihood.kind].binary

    @property
    def value_bits(self) -> int:
        """Bits of a colour value as it is coded."""
        return 1 if self.is_binary else self.image.bits

    def faults(self) -> Iterator[str]:
        """Values of several tables that do not fit together, one line each."""
        plain = self.name.replace("-", "").replace("_", "")
        if not (plain.isascii() and plain.isalnum() and len(self.name) <= 100):
            yield f"name = {self.name[:100]!r} is not up to 100 letters, digits, '-' and '_'"
        if (self.training.crop + 2 * self.image.padding) % self.stride:
            padding = f" - {2 * self.image.padding}" if self.image.padding else ""
            stride = f"{self.stride}{padding}, the network's stride"
            yield f"training.crop = {self.training.crop} is not a multiple of {stride}"
        yield from self._likelihood_faults()
        yield from self._histories_faults()
        if self.network.pyramid_start:
            missing = [wanted for wanted, found in self._pyramid_conditions().items() if not found]
            if missing:
                yield f"network.pyramid_start needs {', '.join(missing)}"

    def _likelihood_faults(self) -> Iterator[str]:
        image, likelihood, network = self.image, self.likelihood, self.network
        kind, facts = likelihood.kind, LIKELIHOODS[likelihood.kind]
        if image.channels not in facts.channels:
            yield f"image.channels = {image.channels} does not fit likelihood.kind = '{kind}', of 3 colours"
        if image.bits not in facts.bits:
            yield f"image.bits = {image.bits} does not fit likelihood.kind = '{kind}', of 8 bits"
        if likelihood.scales and (not facts.phases or image.padding):
            yield "likelihood.scales needs likelihood.kind = 'colourwise' and image.padding = 0"
        elif likelihood.scales and network.patch != 2**likelihood.scales:
            yield (
                f"likelihood.scales = {likelihood.scales} needs network.patch = {2**likelihood.scales}: "
                f"the first phase's pixels lie on the stem's grid"
            )

    def _histories_faults(self) -> Iterator[str]:
        experts, histories = self.likelihood.experts, self.training.histories
        if experts > 1 and not self.likelihood.scales:
            yield f"likelihood.experts = {experts} needs likelihood.scales of 1 or more: experts are its heads"
        if histories is not None and self.image.channels != 3:
            yield "training.histories needs image.channels = 3"
        if histories is not None and max(histories.experts) >= experts:
            needed = max(histories.experts) + 1
            yield f"training.histories.experts = {histories.experts} needs likelihood.experts = {needed}"
        if self.training.experts_alone and not (histories and all(histories.drawn_experts())):
            yield "training.experts_alone needs training.histories whose kinds all train experts after the first"

    def _pyramid_conditions(self) -> dict[str, bool]:
        """What the pyramid start, which sets the weights of certain layers, needs, and whether it is so."""
        network, likelihood, cell = self.network, self.likelihood, self.network.decoder_cell
        phases = likelihood.scales > 0
        return {
            "network.group = 'nvae'": network.group == "nvae",
            "network.resampling = 'plain'": network.resampling == "plain",
            "network.patch = 2, or with phases theirs": phases or network.patch == 2,
            "network.preprocess_blocks = 0, with phases 1": network.preprocess_blocks == int(phases),
            "network.preprocess_cells = 1": not phases or network.preprocess_cells == 1,
            "network.groups = [3, ..., 3, 4]": network.groups == [3] * (len(network.groups) - 1) + [4],
            "network.latents = [3]": set(network.latents) == {3},
            "network.width = 30 or more": network.width >= 30,
            "likelihood.head_width = 30 or more": not phases or likelihood.head_width >= 30,
            "network.width_growth = 1": network.width_growth == 1,
            "network.scale_widths = []": not network.scale_widths,
            "network.decoder_width = 0": network.decoder_channels == network.width,
            "network.flows = 0": network.flows == 0,
            "network.residual_normal = true": network.residual_normal,
            "network.posterior_reads_prior = true": network.posterior_reads_prior,
            "network.encoder_cell.kind = 'depthwise'": network.encoder_cell.kind == "depthwise",
            "network.encoder_cell.activation = 'relu'": (
                {network.encoder_cell.activation, network.below_latents.activation} == {"relu"}
            ),
            "network.decoder_cells = 1 or more": network.decoder_cells > 0,
            "network.decoder_cell.kind = 'depthwise'": {cell.kind, network.above_latents.kind} == {"depthwise"},
            "network.decoder_cell.activation = 'relu'": cell.activation == "relu",
            "network.decoder_cell.kernel = 3 or more": cell.kernel >= 3,
            "network.decoder_cell without gates or scale": cell.residual_scale == 1 and not cell.squeeze_excitation,
            "likelihood.kind = 'colourwise'": likelihood.kind == "colourwise",
            "image.padding = 0": self.image.padding == 0,
        }
