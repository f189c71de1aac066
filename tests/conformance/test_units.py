"""Single pieces against the official code: likelihood, Normals, masks, balancing, groups, bits, weight norm."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.integrations.nvlabs import adaptive_groups
from nvae_codec.likelihoods.joint import joint_mean, joint_nats
from nvae_codec.network.convolution import WeightNormConv2d, causal_mask
from nvae_codec.network.normal import kl_divergence, log_density, normal_of_raw
from nvae_codec.network.nvae import Elbo, Nvae
from nvae_codec.recipes.recipe import ImageRecipe, LikelihoodRecipe, NetworkRecipe, Recipe
from nvae_codec.training.objective import balance_weights, weigh
from tests.conformance.folder import FOLDER, distance, needs_folder, read_arrays

pytestmark = [
    needs_folder,
    pytest.mark.skipif(
        FOLDER is None or not (FOLDER / "units").exists(), reason="the folder that NVAE_CONFORMANCE names has no units"
    ),
]


def units() -> dict[str, NDArray[Any]]:
    assert FOLDER is not None
    return read_arrays(FOLDER / "units" / "units.npz")


def tensor(name: str) -> Tensor:
    return torch.from_numpy(units()[name])


@pytest.mark.parametrize("bits", [8, 5])
def test_the_mixture_of_logistics(bits: int) -> None:
    for dtype, suffix, near in ((torch.float64, "_f64", 1e-9), (torch.float32, "", 1e-4)):
        raw, x = tensor(f"dmol{bits}_logits").to(dtype), tensor(f"dmol{bits}_x_in").to(dtype)
        nats = joint_nats(raw, 2 * x - 1, bits, tail_edge=0.99)
        assert distance(-nats.numpy(), units()[f"dmol{bits}_log_prob{suffix}"]) < near
        # the reference's mean lies in [-1, 1] or in [0, 1], as its numbers tell
        mean, expected = joint_mean(raw).numpy(), units()[f"dmol{bits}_mean{suffix}"]
        assert distance(mean if expected.min() < 0 else (mean + 1) / 2, expected) < near


def test_normals() -> None:
    raw = torch.stack([tensor("normal_raw_mu"), tensor("normal_raw_log_sigma")])[None, :, :, None]
    other = torch.stack([tensor("normal2_raw_mu"), tensor("normal2_raw_log_sigma")])[None, :, :, None]
    normal = normal_of_raw(raw, raw)
    assert distance(normal.mean.flatten().numpy(), units()["normal_mu"]) < 1e-12
    assert distance(normal.sigma.flatten().numpy(), units()["normal_sigma"]) < 1e-12
    assert distance(0.7 * normal.sigma.flatten().numpy(), units()["normal_sigma_temp0.7"]) < 1e-12
    sample = tensor("normal_sample")[None, None, :, None]
    assert distance(log_density(sample, normal).flatten().numpy(), units()["normal_log_p"]) < 1e-12
    kl = kl_divergence(normal, normal_of_raw(other, other))
    assert distance(kl.flatten().numpy(), units()["normal_kl_1_2"]) < 1e-12


def test_masks_of_flows() -> None:
    found = [re.fullmatch(r"mask_k(\d+)_cin(\d+)_g(\d+)_cout(\d+)_zd(\d)_mir(\d)", name) for name in units()]
    matches = [match for match in found if match]
    assert matches
    for match in matches:
        kernel, channels, groups, out, zero, mirror = map(int, match.groups())
        mask = causal_mask(channels, out, kernel, groups, zero_diagonal=bool(zero), mirror=bool(mirror))
        assert np.array_equal(mask.numpy(), units()[match[0]]), match[0]


def recipe_of(groups: list[int]) -> Recipe:
    return Recipe(network=NetworkRecipe(groups=groups[::-1] if groups[0] < groups[-1] else groups))


def test_the_balance_of_groups() -> None:
    for name in units():
        if match := re.fullmatch(r"alpha_square_([\d_]+)", name):
            alpha = balance_weights(recipe_of([int(count) for count in match[1].split("_")]), torch.float64)
            assert distance(alpha.numpy(), units()[name]) < 1e-12, name


def test_balanced_kl() -> None:
    kl, alpha = tensor("klb_kl_all"), tensor("alpha_square_3_2_2")
    # the balance is defined for (groups, batch) or (batch, groups), as the reference has it
    columns = kl.unbind(1 if kl.shape[1] == len(alpha) else 0)
    elbo = Elbo([column[:, None] for column in columns], [torch.zeros((), dtype=torch.float64)])
    for weight in (0.001, 0.4, 1):
        bits = weigh(elbo, float(weight), alpha if weight < 1 else None, 1)
        expected = units()[f"klb_{weight}_kl"].sum()
        assert float(bits.loss) * np.log(2) == pytest.approx(expected, rel=1e-9)


def test_groups_of_scales() -> None:
    for name, expected in units().items():
        if match := re.fullmatch(r"groups_s(\d+)_n(\d+)_ada(\d)_min(\d+)", name):
            scales, groups, adaptive, minimum = map(int, match.groups())
            assert adaptive_groups(scales, groups, minimum, adaptive=bool(adaptive)) == expected.tolist(), name


@pytest.mark.parametrize("bits", range(1, 9))
def test_bits_of_a_channel(bits: int) -> None:
    with torch.device("meta"):
        network = Nvae(Recipe(image=ImageRecipe(bits=bits), likelihood=LikelihoodRecipe(kind="joint")))
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    seen = (network.normalize(levels)[0, 0].flatten() + 1) / 2
    assert distance(seen.numpy(), units()[f"pre_process_table_{bits}"]) < 1e-6


def test_weight_normalisation() -> None:
    weight = tensor("wn_weight")
    convolution = WeightNormConv2d(weight.shape[1], weight.shape[0], weight.shape[2]).double()
    convolution.load_state_dict({
        "weight": weight, "log_weight_norm": tensor("wn_log_weight_norm"), "bias": torch.zeros(len(weight)),
    })  # fmt: skip
    assert distance(convolution.applied_weight().detach().numpy(), units()["wn_result"]) < 1e-12
