"""Imported official checkpoints give the official code's numbers, with its noise, in float64 and float32."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from nvae_codec.integrations.nvlabs import import_network, make_recipe, read_official
from nvae_codec.likelihoods.joint import joint_sample
from nvae_codec.likelihoods.likelihood import find_likelihood
from nvae_codec.network.groups import NvaeGroup
from nvae_codec.network.likelihood import Look, Predict
from nvae_codec.network.normal import Normal, kl_divergence, log_density, normal_of_raw
from nvae_codec.network.nvae import Nvae
from tests.conformance.folder import distance, list_cases, read_arrays, read_description

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
TEMPERATURE = 0.7


@cache
def load(case: Path) -> Nvae:
    official = read_official(case / "checkpoint.pt")
    return import_network(official, make_recipe(official))


def at_precision(case: Path, dtype: torch.dtype) -> Nvae:
    return load(case).to(dtype)


def raw_of(network: Nvae, features: Tensor) -> Tensor:
    found: list[Tensor] = []
    network.likelihood(features, cast(Look, None), cast(Predict, lambda phase, raw: found.append(raw)))
    return found[0]


@torch.no_grad()
def evaluate(network: Nvae, x_in: Tensor, noise: Callable[[int], Tensor]) -> dict[str, Tensor]:
    """All that a reference holds of the pass from images x_in in [0, 1] to bits/dim, by its names."""
    x, image = 2 * x_in - 1, network.recipe.image
    found: dict[str, Tensor] = {}
    groups: dict[str, list[Tensor]] = {}

    def choose(index: int, raw_prior: Tensor | None, raw_posterior: Tensor) -> Tensor:
        drawn = network.draw(index, raw_prior, raw_posterior, noise(index))
        posterior, prior = drawn.posterior, drawn.prior
        found.update({f"q_mu_g{index}": posterior.mean, f"q_sigma_g{index}": posterior.sigma})
        found.update({f"p_mu_g{index}": prior.mean, f"p_sigma_g{index}": prior.sigma, f"z_g{index}": drawn.z})
        flows = cast(NvaeGroup, network.hierarchy.groups[index]).flows
        if len(flows):
            found[f"z_pre_g{index}"] = drawn.before
        if len(flows) == 2:
            found[f"z_mid_g{index}"] = flows[0](drawn.before)
        log_q, log_p = log_density(drawn.before, posterior), log_density(drawn.z, prior)
        each = {"kl_used": drawn.kl, "kl_analytic": kl_divergence(posterior, prior), "kl_sampled": log_q - log_p}
        each |= {"log_q_group": log_q, "log_p_group": log_p, "flow_logdet": torch.zeros_like(log_q)}
        for name, value in each.items():
            groups.setdefault(name, []).append(value.sum((1, 2, 3)))
        groups.setdefault("kl_diag", []).append(drawn.kl.sum((2, 3)).mean(0))
        return drawn.z

    raw = raw_of(network, network.hierarchy(x, network.blank(x), choose))
    found |= {name: torch.stack(values, 0 if name == "kl_diag" else 1) for name, values in groups.items()}
    nats = find_likelihood(network.recipe.likelihood.kind).nats(raw, torch.zeros_like(x), x, network.recipe)
    edge = image.padding
    cropped = nats[..., edge : nats.shape[-2] - edge, edge : nats.shape[-1] - edge]
    found |= {"logits": raw, "logits_mean": raw.mean((2, 3)), "logprob_map": -nats, "recon": cropped.flatten(1).sum(1)}
    found |= {"log_q": found["log_q_group"].sum(1), "log_p": found["log_p_group"].sum(1)}
    found["nelbo"] = found["recon"] + found["kl_used"].sum(1)
    found["log_iw"] = found["log_p"] - found["log_q"] - found["recon"]
    dims = image.channels * (x.shape[2] - 2 * edge) * (x.shape[3] - 2 * edge)
    found["bpd"] = found["nelbo"] / (math.log(2) * dims)
    return found


def compare(found: dict[str, Tensor], case: Path, dtype: torch.dtype) -> int:
    """Compare what was found with what the reference holds of it; the number of arrays compared."""
    reference, suffix = read_arrays(case / "reference.npz"), "_f64" if dtype == torch.float64 else ""
    far: list[str] = []
    count = 0
    for name, value in found.items():
        for key in [
            key for key in reference if key.removesuffix("_f64").rpartition("_s")[0] == name or key == name + suffix
        ]:
            if key.endswith("_f64") != bool(suffix):
                continue
            step = key.removesuffix("_f64").removeprefix(f"{name}_s")
            shown = value[:, :, :: int(step), :: int(step)] if step.isdigit() else value
            apart = distance(shown.numpy(), reference[key])
            count += 1
            if apart > TOLERANCE[dtype]:
                far.append(f"{key} {apart:.1e}")
    assert not far
    return count


both = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@both
@pytest.mark.parametrize("case", list_cases())
def test_images_have_the_official_parameters_and_bits(case: Path, dtype: torch.dtype) -> None:
    reference = read_arrays(case / "reference.npz")

    def noise(group: int) -> Tensor:
        return torch.from_numpy(reference[f"eps_g{group}"]).to(dtype)

    found = evaluate(at_precision(case, dtype), torch.from_numpy(reference["x_in"]).to(dtype), noise)
    assert compare(found, case, dtype) >= 16
    described = read_description(case)
    if dtype == torch.float64:
        for mine, key in (("bpd", "bpd_f64"), ("nelbo", "nelbo_f64"), ("recon", "recon_f64")):
            assert found[mine].numpy() == pytest.approx(described[key], rel=1e-9)
        assert found["bpd"].numpy() == pytest.approx(reference["bpd_f64"], abs=1e-9)
        assert found["kl_used"].mean(0).numpy() == pytest.approx(described["kl_used_f64_per_group_mean"], rel=1e-9)


@both
@pytest.mark.parametrize("case", list_cases())
def test_importance_weights_are_the_official_ones(case: Path, dtype: torch.dtype) -> None:
    reference, suffix = read_arrays(case / "reference.npz"), "_f64" if dtype == torch.float64 else ""
    network, x = at_precision(case, dtype), torch.from_numpy(reference["x_in"][:1]).to(dtype)
    draws = reference["iw_log_iw"].shape[1]

    def evaluate_draw(draw: int) -> dict[str, Tensor]:
        return evaluate(network, x, lambda group: torch.from_numpy(reference[f"iw_eps_k{draw}_g{group}"]).to(dtype))

    passes = [evaluate_draw(draw) for draw in range(draws)]
    log_iw = torch.stack([found["log_iw"] for found in passes], 1)
    found = {"iw_log_iw": log_iw, "iw_neg_log_p": math.log(draws) - torch.logsumexp(log_iw, 1)}
    found["iw_nelbo_mean"] = torch.stack([found["nelbo"] for found in passes], 1).mean(1)
    for name, value in found.items():
        assert distance(value.numpy(), reference[name + suffix]) < TOLERANCE[dtype], name
    official = torch.stack([found["iw_neg_log_p"][0], found["iw_nelbo_mean"][0]])
    assert distance(official.numpy(), reference["iw_official_test" + suffix]) < TOLERANCE[dtype]


@both
@pytest.mark.parametrize("case", list_cases())
def test_images_from_the_prior_are_the_official_ones(case: Path, dtype: torch.dtype) -> None:
    reference, network = read_arrays(case / "reference.npz"), at_precision(case, dtype)

    def choose(index: int, raw_prior: Tensor | None) -> Tensor:
        noise = torch.from_numpy(reference[f"gen_eps_g{index}"]).to(dtype)
        prior: Normal = normal_of_raw(raw_prior, noise.repeat(1, 2, 1, 1))
        return prior.mean + noise * prior.sigma * TEMPERATURE

    with torch.no_grad():
        side = reference["x_in"].shape[2] // network.recipe.stride
        raw = raw_of(network, network.hierarchy.generate(torch.zeros(1, 1, side, side, dtype=dtype), choose))
        mean = find_likelihood(network.recipe.likelihood.kind).pixels(raw, raw, network.recipe, None)
        found = {"gen_logits": raw, "gen_mean": (mean + 1) / 2}
        if "gen_u_mix" in reference:
            component, logistic = (
                torch.from_numpy(reference[name]).to(dtype) for name in ("gen_u_mix", "gen_u_logistic")
            )
            found["gen_sample"] = (joint_sample(raw, component, logistic, TEMPERATURE) + 1) / 2
    assert compare(found, case, dtype) >= 1


@pytest.mark.parametrize("case", list_cases())
def test_pixels_become_what_the_official_model_sees(case: Path) -> None:
    reference, network = read_arrays(case / "reference.npz"), load(case)
    if "x_prob" in reference:  # drawn at each use: on average they are the grey values
        torch.manual_seed(0)
        pixels = torch.from_numpy(reference["x_uint8"])
        mean = torch.stack([network.normalize(pixels) for _ in range(300)]).mean(0)
        assert float(((mean + 1) / 2 - torch.from_numpy(reference["x_prob"])).abs().max()) < 0.15
        return
    seen = (network.normalize(torch.from_numpy(reference["x_uint8"])) + 1) / 2
    assert distance(seen.numpy(), reference["x_in"]) < 1e-6


@pytest.mark.parametrize("case", list_cases())
def test_the_network_is_as_large_as_the_official_one(case: Path) -> None:
    described, network = read_description(case), load(case)
    count: Any = sum(parameter.numel() for parameter in network.parameters())
    assert count == described["n_parameters"]
    assert network.recipe.network.groups == described["groups_per_scale_enc_order"]
    sides = [side for _, side, _ in described["latent_shapes_top_to_bottom"]]
    assert [latents for latents, _, _ in described["latent_shapes_top_to_bottom"]] == network.latents
    assert sides[0] == network.recipe.network.top_size
    assert json.dumps(described)  # a plain description
