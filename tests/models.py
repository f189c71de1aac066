"""Tiny recipes, networks and exported models that many tests share; each is made once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from nvae_codec import ports
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.coded import Coded
from nvae_codec.export.export import Exported, export
from nvae_codec.integer.model import IntegerModel
from nvae_codec.network.likelihood import Look, PhasedHeads
from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.schedule.shape import Shape

PHASED = """
name = "tiny"
[image]
colour_order = "grb"
[network]
patch = 4
width = 8
width_growth = 1
preprocess_blocks = 0
groups = [1, 1]
latents = [2, 3]
encoder_cells = 1
decoder_cells = 1
posterior_log_sigma = -2.0
[network.encoder_cell]
kind = "depthwise"
kernel = 3
expansion = 2
normalization = "none"
activation = "relu"
squeeze_excitation = false
residual_scale = 1.0
[network.decoder_cell]
kind = "depthwise"
kernel = 5
expansion = 2
normalization = "none"
activation = "relu"
squeeze_excitation = false
residual_scale = 1.0
[likelihood]
components = 3
scales = 2
head_width = 8
head_cells = 1
head_features = 4
mean_scale = 0.1
[training]
steps = 40
batch = 2
crop = 16
optimizer = "adamw"
learning_rate = 1e-2
warmup_steps = 2
kl_start = 0.02
kl_warmup_fraction = 0.3
base_first_fraction = 0.1
"""

OFFICIAL = """
name = "official"
[network]
patch = 1
width = 8
preprocess_blocks = 1
preprocess_cells = 2
groups = [2, 1]
latents = [3]
encoder_cells = 1
decoder_cells = 1
posterior_log_sigma = -2.0
[network.encoder_cell]
kind = "regular"
[network.decoder_cell]
kind = "separable"
expansion = 2
[likelihood]
components = 2
[training]
steps = 40
batch = 2
crop = 16
warmup_steps = 2
"""


def change(text: str, *changes: str) -> str:
    """A recipe's text with ``table.key = value`` changed or added; keys without a table stand at the top."""
    for line in changes:
        where, value = line.split(" = ")
        table, _, key = where.rpartition(".")
        lines = text.splitlines()
        header = lines.index(f"[{table}]") if table else -1
        end = next((i for i in range(header + 1, len(lines)) if lines[i].startswith("[")), len(lines))
        kept = [entry for entry in lines[header + 1 : end] if not entry.startswith(f"{key} =")]
        text = "\n".join([*lines[: header + 1], f"{key} = {value}", *kept, *lines[end:]])
    return text


RECIPES = {
    "phases of two levels": PHASED,
    "phases of one level, elu": change(
        PHASED, "network.patch = 2", "likelihood.scales = 1", "network.encoder_cell.activation = 'elu'",
        "network.encoder_cell.kind = 'regular'", "network.decoder_cell.activation = 'hard_swish'",
    ),
    "phases, two experts": change(PHASED, "network.patch = 2", "likelihood.scales = 1", "likelihood.experts = 2"),
    "phases, batch norm, gates": change(
        PHASED, "network.encoder_cell.normalization = 'batch'", "network.decoder_cell.normalization = 'batch'",
        "network.encoder_cell.kind = 'regular'", "network.decoder_cell.kind = 'separable'",
        "network.decoder_cell.squeeze_excitation = true", "network.preprocess_blocks = 1",
    ),
    "official: batch norm, gates, swish": OFFICIAL,
    "official, two pairs of flows": change(OFFICIAL, "network.flows = 2"),
    "official, depthwise, elu, absolute posteriors": change(
        OFFICIAL, "network.residual_normal = false", "network.decoder_cell.kind = 'depthwise'",
        "network.decoder_cell.activation = 'elu'", "network.encoder_cell.activation = 'relu'",
    ),
    "official, patch 2, hard swish, no norm": change(
        OFFICIAL, "network.patch = 2", "network.encoder_cell.normalization = 'none'",
        "network.encoder_cell.activation = 'hard_swish'", "network.decoder_cell.normalization = 'none'",
        "network.decoder_cell.activation = 'hard_swish'", "network.width_growth = 1",
        "network.encoder_cell.residual_scale = 1.0", "network.preprocess_blocks = 0",
    ),
    "pyramid": change(
        OFFICIAL, "network.patch = 2", "network.width = 32", "network.width_growth = 1", "network.groups = [3, 4]",
        "network.preprocess_blocks = 0", "network.pyramid_start = true", "network.posterior_reads_prior = true",
        "network.encoder_cell.kind = 'depthwise'",
        "network.encoder_cell.activation = 'relu'", "network.encoder_cell.normalization = 'none'",
        "network.encoder_cell.squeeze_excitation = false", "network.encoder_cell.residual_scale = 1.0",
        "network.decoder_cell.kind = 'depthwise'", "network.decoder_cell.activation = 'relu'",
        "network.decoder_cell.normalization = 'none'", "network.decoder_cell.squeeze_excitation = false",
        "network.decoder_cell.residual_scale = 1.0",
    ),
}  # fmt: skip
RECIPES["phases on a pyramid"] = change(
    RECIPES["pyramid"], "network.patch = 4", "network.preprocess_blocks = 1", "network.preprocess_cells = 1",
    "network.groups = [4]", "likelihood.scales = 2", "likelihood.head_width = 32", "likelihood.head_cells = 1",
    "likelihood.head_features = 4", "likelihood.mean_scale = 0.1",
)  # fmt: skip
"""Many of the ways in which a recipe can be told."""

DIGITS = change(
    OFFICIAL + "\n[image]\n", "image.channels = 1", "image.padding = 2",
    "likelihood.kind = 'bernoulli'", "training.crop = 28",
)  # fmt: skip
OF_LIKELIHOODS = {
    "bernoulli": DIGITS,
    "bernoulli of one size": change(DIGITS, "network.resampling = 'residual'", "network.top_size = 8"),
    "joint": change(OFFICIAL, "likelihood.kind = 'joint'", "likelihood.components = 3"),
    "joint, 5 bits": change(
        OFFICIAL + "\n[image]\n", "image.bits = 5", "likelihood.kind = 'joint'", "likelihood.components = 3",
        "likelihood.tail_edge = 0.99", "network.resampling = 'nearest'",
    ),
}  # fmt: skip
"""The official likelihoods: models of other images than RGB of 8 bits, but for one."""


def make_recipe(which: str = "phases of two levels", *changes: str) -> Recipe:
    return parse_recipe(change((RECIPES | OF_LIKELIHOODS)[which], *changes))


def make_network(recipe: Recipe, seed: int = 0) -> Nvae:
    """An untrained network whose every parameter and statistic does something."""
    torch.manual_seed(seed)
    network = Nvae(recipe)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return network.eval()


def predict_all(network: Nvae, features: Tensor, look: Look, predict: Callable[[str, Tensor], None]) -> None:
    """Give ``predict`` (output's name, raw parameters) for all phases of all experts."""
    heads = network.likelihood
    if isinstance(heads, PhasedHeads):
        every = range(1 + len(heads.experts))
        heads.predict_all(features, look, lambda p, e, raw: predict(ports.pixels(p, e), raw), experts=every)
    else:
        heads(features, look, lambda phase, raw: predict(ports.pixels(phase), raw))


def random_crops(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Images uint8 (count, 3, side, side), each like those of :func:`make_image`."""
    images = [make_image(side, side, seed + index) for index in range(count)]
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def make_image(height: int, width: int, seed: int = 0, noise: float = 6.0) -> NDArray[np.uint8]:
    """Waves, an edge, and noise: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    light = 128 + 60 * np.sin(x / 17 + seed) * np.cos(y / 23) + 40 * (x + y > (height + width) / 2)
    colours = light[..., None] + np.array([12, 0, -20]) + rng.normal(0, noise, (height, width, 1))
    colours += rng.normal(0, noise / 4, (height, width, 3))
    image: NDArray[np.uint8] = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
    return image


def save_images(folder: Path, count: int = 3, side: int = 48) -> Path:
    """PNG files of :func:`make_image` in a folder, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(make_image(side, side + 8 * index, index)).save(folder / f"{index}.png")
    return folder


@cache
def exported_network(which: str = "phases of two levels") -> tuple[Nvae, Exported]:
    """A perturbed network of a recipe, and what freezing makes of it."""
    network = make_network(make_recipe(which))
    crops = random_crops(4, 64)
    if network.recipe.image.channels == 1:
        crops = crops[:, :1, :60, :60]
    return network, export(network, [crops])


def exported_model(which: str = "phases of two levels") -> IntegerModel:
    return exported_network(which)[1].model


def round_trip(codec: ModelCodec, *images: NDArray[np.uint8], decoder: ModelCodec | None = None) -> Coded:
    """What images are coded to, once they were decoded from it."""
    coded = codec.encode(images)
    restored = (decoder or codec).decode([Shape.of(image) for image in images], coded)
    for index, image in enumerate(images):
        assert restored[index].dtype == np.uint8
        assert np.array_equal(restored[index], image)
    return coded
