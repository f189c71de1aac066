"""The objective in training mode is the official one: losses, gradients, statistics, schedules, steps of Adamax."""

import dataclasses
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec.integrations.nvlabs import import_network, make_recipe, match_keys, match_modules, read_official
from nvae_codec.likelihoods.likelihood import find_likelihood
from nvae_codec.network.nvae import Elbo, Nvae
from nvae_codec.recipes.recipe import TrainingRecipe
from nvae_codec.training.objective import balance_weights, kl_weight, learning_rate, weigh
from nvae_codec.training.optimizers import make_optimizer
from nvae_codec.training.regularization import SpectralNorms, scale_total, spectral_weight
from tests.conformance.folder import distance, list_cases, read_arrays, read_description

NEAR = 1e-9
cases = pytest.mark.parametrize("case", list_cases(training=True))


@cache
def trained(case: Path) -> dict[str, NDArray[Any]]:
    return read_arrays(case / "trainmode_f64.npz")


def schedule(case: Path) -> TrainingRecipe:
    given = read_description(case)["args_overrides"]
    return TrainingRecipe(
        steps=given["num_total_iter"], kl_start=given["kl_const_coeff"], kl_hold_fraction=given["kl_const_portion"],
        kl_warmup_fraction=given["kl_anneal_portion"], kl_ramp="floor", loss_unit="nats",
        spectral_weight=given["weight_decay_norm"],
        spectral_start=given["weight_decay_norm_init"] if given["weight_decay_norm_anneal"] else 0.0,
    )  # fmt: skip


def load(case: Path) -> tuple[Nvae, dict[str, str]]:
    """The network in training mode, float64, and our names of the official parameters."""
    official = read_official(case / read_description(case)["checkpoint"])
    recipe = make_recipe(official)
    network = import_network(official, recipe).double().train()
    return network, match_keys(network, official.state)


def source(case: Path) -> dict[str, NDArray[Any]]:
    return read_arrays((case / read_description(case)["checkpoint"]).parent / "reference.npz")


def start_norms(case: Path, network: Nvae) -> SpectralNorms:
    """Power iterations from the reference's first estimates, in our order of the layers."""
    norms, names = SpectralNorms(network), {id(module): name for name, module in match_modules(network)}
    for shape, layers in norms.layers.items():
        listed = trained(case)[f"sr_layers_{shape}"].tolist()
        rows = [listed.index(names[id(convolution)]) for convolution in layers.convolutions]
        assert len(rows) == len(listed)
        layers.u = torch.from_numpy(trained(case)[f"sr_u_init_{shape}"])[rows]
    return norms


@dataclasses.dataclass
class Pass:
    recon: Tensor
    elbo: Elbo
    raw: Tensor


def run(case: Path, network: Nvae) -> Pass:
    reference = source(case)
    x = 2 * torch.from_numpy(reference["x_in"]).double() - 1
    kls: list[Tensor] = []
    found: list[Tensor] = []

    def choose(index: int, raw_prior: Tensor | None, raw_posterior: Tensor) -> Tensor:
        drawn = network.draw(index, raw_prior, raw_posterior, torch.from_numpy(reference[f"eps_g{index}"]).double())
        kls.append(drawn.kl.sum((2, 3)))
        return drawn.z

    features = network.hierarchy(x, network.blank(x), choose)
    network.likelihood(features, lambda plane: x, lambda phase, raw: found.append(raw))
    recipe = network.recipe
    nats = find_likelihood(recipe.likelihood.kind).nats(found[0], torch.zeros_like(x), x, recipe)
    edge = recipe.image.padding
    recon = nats[..., edge : nats.shape[-2] - edge, edge : nats.shape[-1] - edge].flatten(1).sum(1)
    return Pass(recon, Elbo(kls, [recon.sum()]), found[0])


def loss_of(elbo: Elbo, network: Nvae, kl: float) -> Tensor:
    """Nats an image, without regularisation."""
    alpha = balance_weights(network.recipe, torch.float64) if kl < 1 else None
    return weigh(elbo, kl, alpha, len(elbo.kl[0])).loss * math.log(2)


@cases
def test_losses_and_gradients_at_each_stage_of_annealing(case: Path) -> None:
    given, training = trained(case), schedule(case)
    network, ours = load(case)
    parameters = dict(network.named_parameters())
    named = [parameters[ours[name]] for name in given["param_names"].tolist()]
    assert len(named) == len(parameters)
    for row, step in enumerate(given["global_steps"].tolist()):
        norms = start_norms(case, network)
        passed, kl = run(case, network), kl_weight(training, step / training.steps)
        assert kl == pytest.approx(given["kl_coeff"][row], rel=NEAR)
        weight = spectral_weight(training, kl)
        assert weight == pytest.approx(given["wdn_coeff"][row], rel=NEAR)
        plain, total, scales = loss_of(passed.elbo, network, kl), norms.total(), scale_total(network)
        assert plain.item() == pytest.approx(given["mean_nelbo"][row], rel=NEAR)
        assert total.item() == pytest.approx(float(given["norm_loss"]), rel=NEAR)
        assert scales.item() == pytest.approx(float(given["bn_loss"]), rel=NEAR)
        loss = plain + weight * (total + scales)
        assert loss.item() == pytest.approx(given["loss"][row], rel=NEAR)
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in named]
        found = {
            "grad_norm": [float(g.norm()) for g in gradients],
            "grad_sum": [float(g.sum()) for g in gradients],
            "grad_cosdot": [float((g * torch.cos(0.1 * torch.arange(len(g)).double())).sum()) for g in gradients],
        }
        for name, values in found.items():
            assert distance(np.array(values), given[name][row]) < 1e-7, name


@cases
def test_one_forward_pass(case: Path) -> None:
    given = trained(case)
    network, ours = load(case)
    with torch.no_grad():
        passed = run(case, network)
    assert distance(passed.recon.numpy(), given["recon"]) < NEAR
    assert distance(passed.raw.mean((2, 3)).numpy(), given["logits_mean"]) < NEAR
    kl_all = torch.stack([kl.sum(1) for kl in passed.elbo.kl], 1)
    assert min(distance(kl_all.numpy(), given["kl_all"]), distance(kl_all.T.numpy(), given["kl_all"])) < NEAR
    buffers = dict(network.named_buffers())
    statistics = [buffers[ours[name]] for name in given["bn_buffer_names"].tolist()]
    sums, norms = ([float(f(b)) for b in statistics] for f in (torch.sum, torch.linalg.vector_norm))
    assert distance(np.array(sums), given["bn_buffer_sum_after_1_forward"]) < NEAR
    assert distance(np.array(norms), given["bn_buffer_norm_after_1_forward"]) < NEAR


@cases
def test_singular_values(case: Path) -> None:
    given = trained(case)
    network, _ = load(case)
    norms, names = start_norms(case, network), {id(module): name for name, module in match_modules(network)}
    with torch.no_grad():
        norms.total()
        for shape, layers in norms.layers.items():
            listed = given[f"sr_layers_{shape}"].tolist()
            rows = [listed.index(names[id(convolution)]) for convolution in layers.convolutions]
            assert distance(layers.u.numpy(), given[f"sr_u_after40_{shape}"][rows]) < 1e-8
        assert float(norms.total()) == pytest.approx(float(given["norm_loss_after_4_more"]), rel=NEAR)
    assert {f"sr_layers_{shape}" for shape in norms.layers} == {name for name in given if name.startswith("sr_layers_")}


@cases
def test_schedules(case: Path) -> None:
    given, training = trained(case), schedule(case)
    found = [kl_weight(training, step / training.steps) for step in given["kl_coeff_table_steps"].tolist()]
    assert found == pytest.approx(given["kl_coeff_table"].tolist(), rel=NEAR)
    for name, expected in given.items():
        if match := re.fullmatch(r"lr_table_E(\d+)_W(\d+)_N(\d+)", name):
            epochs, warmup, per_epoch = map(int, match.groups())
            rates = TrainingRecipe(
                steps=epochs * per_epoch,
                warmup_steps=warmup * per_epoch,
                steps_per_epoch=per_epoch,
                final_learning_rate=1e-4,
            )
            assert [learning_rate(rates, step) for step in range(len(expected))] == pytest.approx(expected, rel=NEAR)


@cases
def test_three_steps_of_adamax(case: Path) -> None:
    given, training = trained(case), schedule(case)
    network, ours = load(case)
    norms, optimizer = start_norms(case, network), make_optimizer(network.recipe.training, network.parameters())
    # the stage of annealing is the one whose first loss is the reference's
    row = int(np.argmin(np.abs(given["loss"] - given["adamax3_loss"][0])))
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    for step in range(3):
        kl = kl_weight(training, (int(given["global_steps"][row]) + step) / training.steps)
        passed, total = run(case, network), norms.total()
        loss = loss_of(passed.elbo, network, kl) + spectral_weight(training, kl) * (total + scale_total(network))
        assert total.item() == pytest.approx(given["adamax3_norm_loss"][step], rel=1e-8)
        assert loss.item() == pytest.approx(given["adamax3_loss"][step], rel=1e-8)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    parameters = dict(network.named_parameters())
    named = [parameters[ours[name]].detach() for name in given["param_names"].tolist()]
    assert distance(np.array([float(p.sum()) for p in named]), given["adamax3_param_sum"]) < 1e-7
    assert distance(np.array([float(p.norm()) for p in named]), given["adamax3_param_norm"]) < 1e-7
