"""The integer network agrees with the float one, up to its rounding."""

import dataclasses
from typing import cast

import pytest
import torch
from torch import Tensor

from nvae_codec.export.export import LEAST_KL, Exported, export
from nvae_codec.integer.graph import Evaluation
from nvae_codec.likelihoods.mixture import COLOUR_UNIT, LEVEL_UNIT, LOG_SCALE_UNIT, LOGIT_UNIT
from nvae_codec.likelihoods.tables import FIXED, RAW_UNIT
from nvae_codec.network.flow import list_halves
from nvae_codec.network.groups import Group
from nvae_codec.network.normal import normal_of_raw
from nvae_codec.network.nvae import Nvae
from nvae_codec.polyphase import Plane, list_phases
from nvae_codec.recipes.recipe import Recipe
from tests.models import RECIPES, exported_network, make_network, make_recipe, predict_all, random_crops

NEAR = 0.005
"""Real units of raw parameters, beside the half step of their own rounding."""
NEAR_OF_PYRAMIDS = 0.05
"""The same where latents carry pixels: up to 5, of a sigma of 0.02, and raw log sigmas of -8."""


def pixel_units(recipe: Recipe) -> Tensor:
    """Integers in one real unit of each raw parameter of the pixels."""
    k = recipe.likelihood.components
    levels = LEVEL_UNIT * 127.5 * recipe.likelihood.mean_scale
    units = [levels] * 3 * k + [LOG_SCALE_UNIT] * 3 * k + [LOGIT_UNIT] * 3 * k + [COLOUR_UNIT] * 3
    return torch.tensor(units).view(1, -1, 1, 1)


def largest_differences(network: Nvae, exported: Exported, pixels: Tensor) -> dict[str, float]:
    """Of each output, beyond half a step of its rounding, in real units, on images and latents of their own."""
    model, x = exported.model, network.normalize(pixels)
    evaluation: Evaluation = model.graph.evaluate(debug=True)
    differences: dict[str, float] = {}
    torch.manual_seed(0)

    def compare(name: str, real: Tensor, units: Tensor) -> None:
        beyond = (evaluation.take(name) / units - real).abs() - 0.5 / units
        differences[name] = float(beyond.max())

    def look(plane: Plane) -> Tensor:
        return x[:, :, plane.row :: plane.stride, plane.column :: plane.stride]

    def choose(index: int, prior: Tensor | None, posterior: Tensor) -> Tensor:
        group, normal = model.groups[index], normal_of_raw(posterior, posterior)
        if prior is not None:
            compare(f"prior.{index}", prior, torch.tensor(RAW_UNIT))
        compare(f"posterior.{index}", posterior, torch.tensor(RAW_UNIT))
        scale = torch.from_numpy(2.0**-12 / group.multiplier).float().view(1, -1, 1, 1)
        whole = (normal.mean / scale).round().clamp(-group.bound, group.bound)
        evaluation.give(f"z.{index}", whole)
        flows = cast(Group, network.hierarchy.groups[index]).flows
        for half, (shift, multiplier) in enumerate(zip(list_halves(flows), group.flow_multipliers, strict=True)):
            own = torch.from_numpy(2.0**-12 / multiplier).float().view(1, -1, 1, 1)
            before = (normal.mean / own).round()
            evaluation.give(f"flow.{index}.{half}", before)
            compare(f"shift.{index}.{half}", shift.mean(before * own), torch.tensor(2**FIXED))
        return whole * scale

    evaluation.give("image", (x * 255).round())
    evaluation.give("blank", network.blank(x))
    for phase in list_phases(network.recipe.likelihood.scales):
        for plane in phase.known:
            evaluation.give(plane.name, (look(plane) * 255).round())
    units = pixel_units(network.recipe)
    with torch.inference_mode():
        features = network.hierarchy(x, network.blank(x), choose)
        predict_all(network, features, look, lambda name, raw: compare(name, raw, units))
    assert not evaluation.values, "everything was used up"
    return differences


@pytest.mark.parametrize("which", RECIPES)
def test_float_and_exact_networks_agree(which: str) -> None:
    network, exported = exported_network(which)
    found = largest_differences(network, exported, random_crops(3, 48, seed=70))
    assert found.keys() == exported.model.graph.outputs.keys()
    near = NEAR_OF_PYRAMIDS if network.recipe.network.pyramid_start else NEAR
    assert {name: value for name, value in found.items() if value > near} == {}


@pytest.mark.parametrize("which", RECIPES)
def test_a_model_has_what_coding_needs(which: str) -> None:
    network, exported = exported_network(which)
    model, recipe = exported.model, network.recipe
    assert model.stride == recipe.stride
    assert len(model.phases) == 1 + 3 * recipe.likelihood.scales
    assert [group.channels for group in model.groups] == network.latents
    assert [group.has_prior for group in model.groups] == [False] + [True] * (len(model.groups) - 1)
    assert all(64 <= step <= 4096 for group in model.groups for step in group.bin_widths)
    assert len(model.identity) == 32
    assert sorted(model.colour_order) == [0, 1, 2]
    for layer in exported.layers:
        assert layer.largest_sum < (2**53 if layer.digits > 1 else 2**24)


@pytest.mark.parametrize("which", ["pyramid", "phases on a pyramid"])
def test_what_carries_pixels_keeps_all_bits_of_its_weights(which: str) -> None:
    split = {layer.source: layer.digits > 1 for layer in exported_network(which)[1].layers}
    out = "network.likelihood." + ("base." if "phases" in which else "") + "out"
    passed = {
        f"network.hierarchy.groups.{group}.{layer}" for group in range(4) for layer in ("posterior_head", "combine")
    }
    assert all(split[source] for source in {*passed, "network.hierarchy.encoder.stem", out})
    assert not any(is_split for source, is_split in split.items() if ".cells." in source)


def test_weights_that_float32_cannot_hold_are_split() -> None:
    """One recipe has weights of one output channel whose sizes are far apart."""
    exported = exported_network("phases of two levels")[1]
    split = [layer for layer in exported.layers if layer.digits > 1]
    assert split
    assert all(layer.largest_sum >= 2**24 for layer in split)
    operations = [op for op in exported.model.graph.operations.values() if getattr(op, "digits", ())]
    assert len(operations) == len(split)


def test_uninformative_latents_are_pruned() -> None:
    network = make_network(make_recipe())
    head = network.hierarchy.groups[1].posterior_head
    assert isinstance(head, torch.nn.Conv2d)
    with torch.no_grad():  # the residual posterior of one channel is its prior
        assert head.bias is not None
        for row in (0, network.latents[1]):
            head.weight[row] = 0
            head.bias[row] = 0
    exported = export(network, [random_crops(4, 64)])
    assert [group.active for group in exported.model.groups] == [(0, 1, 2), (1,)]
    assert len(exported.model.groups[1].bin_widths) == 1
    assert len(exported.model.groups[1].multiplier) == 2
    assert LEAST_KL > 0


def test_the_name_does_not_change_the_identity() -> None:
    network = make_network(make_recipe())
    one = export(network, [random_crops(2, 32)]).model
    network.recipe = dataclasses.replace(network.recipe, name="other")
    other = export(network, [random_crops(2, 32)]).model
    assert (one.name, other.name) == ("tiny", "other")
    assert one.identity == other.identity
    assert one.canary == other.canary
