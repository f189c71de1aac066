"""Flows on the grid: a bijection of integers, whatever the weights and wherever the numbers lie."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.flows import FlowPosterior, Shift
from nvae_codec.coding.latents import Grid, Prior
from nvae_codec.errors import ModelFileError
from nvae_codec.export.export import export
from nvae_codec.integer.bounds import prove_exact
from nvae_codec.integer.causality import check_half
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.inference import exact_inference
from nvae_codec.integer.model import IntegerModel, LatentGroup
from nvae_codec.integer.operation import Operation
from nvae_codec.integer.operations import Convolve, Input, LookUp
from nvae_codec.likelihoods.tables import SHIFT_BOUND
from nvae_codec.network.convolution import causal_mask
from nvae_codec.network.flow import list_halves
from nvae_codec.runtime import Runtime
from tests.coding.test_latents import random_normals
from tests.models import (
    exported_model,
    exported_network,
    make_image,
    make_network,
    make_recipe,
    random_crops,
    round_trip,
)

FLOWS = "official, two pairs of flows"
Int32 = NDArray[np.int32]
BOUND = 2000


def random_half(rng: np.random.Generator, latents: int, half: int, strength: float) -> Graph:
    """Half a flow of random whole weights: masked 3x3, table, masked depthwise 5x5, table, masked 1x1."""
    inner, mirror = 2 * latents, half % 2 == 1

    def layer(
        name: str, source: str, shape: tuple[int, int, int], groups: int, bound: int, *, strict: bool
    ) -> Convolve:
        channels, out, kernel = shape
        mask = causal_mask(channels, out, kernel, groups, zero_diagonal=strict, mirror=mirror)
        weight = torch.from_numpy(rng.integers(-9, 10, tuple(mask.shape))).float() * mask
        bias = torch.from_numpy(rng.integers(-999, 1000, out)).float()
        multiplier = torch.full((out,), strength * bound / BOUND)
        return Convolve(name, (source,), weight, bias, multiplier, 1, kernel // 2, groups, -bound, bound)

    tables = [torch.from_numpy(rng.integers(-BOUND, BOUND + 1, 2 * BOUND + 1)).int() for _ in range(2)]
    source, public = f"flow.0.{half}", f"shift.0.{half}"
    steps: list[Operation] = [
        Input(source, (), latents, BOUND, 8),
        layer("a", source, (latents, inner, 3), 1, BOUND, strict=True),
        LookUp("b", ("a",), tables[0]),
        layer("c", "b", (inner, inner, 5), inner, BOUND, strict=False),
        LookUp("d", ("c",), tables[1]),
        layer("e", "d", (inner, latents, 1), 1, SHIFT_BOUND, strict=False),
    ]
    return Graph(steps, {public: "e"})


def shift_of(graphs: list[Graph]) -> Shift:
    """What halves take off z, from a graph each."""

    def shift(half: int, z: NDArray[np.float32]) -> Int32:
        with exact_inference(torch.device("cpu")):
            evaluation = graphs[half].evaluate()
            evaluation.give(f"flow.0.{half}", torch.from_numpy(z))
            whole: Int32 = evaluation.take(f"shift.0.{half}").to(torch.int32).contiguous().numpy()
        return whole

    return shift


def random_latents(seed: int, shift: Shift, halves: int, wide: int, *, coarse: bool) -> FlowPosterior:
    """Of three channels, two of them active."""
    rng = np.random.default_rng(seed)
    steps = tuple(int(step) for step in rng.choice([65, 100, 1000, 4096], 2))
    multipliers = rng.uniform(0.01, 0.5, (halves, 3))
    group = LatentGroup(8, 3, (0, 2), steps, np.full(3, 0.1), BOUND, True, 16, (BOUND,) * halves, multipliers)
    shape = (2, 3, 3, 3)
    prior = Prior(Grid(exported_model(), group, coarse), random_normals(rng, shape, wide))
    return FlowPosterior(prior, random_normals(rng, shape, wide), shift)


def some_symbols(rng: np.random.Generator, latents: FlowPosterior) -> list[Int32]:
    """Both edges, the middle, and anything."""
    bins = latents.bins
    anything = [rng.integers(0, bins) for _ in range(2)]
    edges = np.where(rng.random(latents.count) < 0.5, 0, bins - 1)
    return [k.astype(np.int32) for k in (np.zeros_like(bins), bins - 1, latents.half, edges, *anything)]


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 10**6), st.sampled_from([1, 2, 4]), st.sampled_from([0.001, 0.03, 3.0]),
    st.sampled_from([100, 1000, 10**5]), st.booleans(),
)  # fmt: skip
def test_flows_are_inverted(seed: int, halves: int, strength: float, wide: int, coarse: bool) -> None:
    """Random weights of any strength, so that shifts go round the grid many times; random places and both edges."""
    rng = np.random.default_rng(seed)
    graphs = [random_half(rng, 3, half, strength) for half in range(halves)]
    for half, graph in enumerate(graphs):
        prove_exact(graph)
        check_half(graph, 0, half, 3)
    latents = random_latents(seed, shift_of(graphs), halves, wide, coarse=coarse)
    for k in some_symbols(rng, latents):
        for there, back in ((latents.to_prior, latents.from_prior), (latents.from_prior, latents.to_prior)):
            found = there(k)
            assert ((found >= 0) & (found < latents.bins)).all()
            assert np.array_equal(back(found), k)


def test_the_prior_sees_z_less_the_shifts() -> None:
    """A shift that is the same everywhere, in bins of the grid: of 4096 at a sigma of 1, each is one unit wide."""

    def shift(half: int, z: NDArray[np.float32]) -> Int32:
        return np.full(z.shape, (3 * 4096, -4096)[half], np.int32)

    prior = random_latents(0, shift, 2, 100, coarse=False).prior
    prior.step, prior.normals.sigma[:] = np.full_like(prior.step, 4096), 2**16
    latents = FlowPosterior(prior, prior.normals, shift)  # whose mean is the middle of the grid
    k = latents.half.astype(np.int32) + np.arange(latents.count, dtype=np.int32) % 3
    assert np.array_equal(latents.to_prior(k), (k - 2) % latents.bins)


def exported_shift(model: IntegerModel, group: int) -> Shift:
    def shift(half: int, z: NDArray[np.float32]) -> Int32:
        with exact_inference(torch.device("cpu")):
            evaluation = model.graph.evaluate([f"shift.{group}.{half}"])
            evaluation.give(f"flow.{group}.{half}", torch.from_numpy(z))
            whole: Int32 = evaluation.take(f"shift.{group}.{half}").to(torch.int32).contiguous().numpy()
        return whole

    return shift


def test_exported_flows_are_the_float_ones() -> None:
    network, exported = exported_network(FLOWS)
    model = exported.model
    for index, group in enumerate(model.groups):
        rng = np.random.default_rng(index)
        shape = (2, group.channels, 5, 6)
        prior = Prior(Grid(model, group, False), random_normals(rng, shape, 60))
        latents = FlowPosterior(prior, random_normals(rng, shape, 60), exported_shift(model, index))
        sigma = group.bin_widths[0] / 4096 * 8  # of the posterior, in prior units, about
        off = np.rint(rng.normal(0, sigma, latents.count) / (latents.step / 4096)).astype(np.int32)
        k = latents.half.astype(np.int32) + np.clip(off, -latents.half, latents.half).astype(np.int32)
        real = torch.from_numpy(prior.place(latents.middles[0] + off, latents.pruned[0]) / 4096).float()
        flows = network.hierarchy.groups[index].flows
        assert isinstance(flows, torch.nn.Sequential)
        with torch.inference_mode():
            for half in list_halves(flows):
                real = half(real)
        flown = latents.to_prior(k)
        found = prior.place(flown - latents.half, prior.normals.mean) / 4096
        # each of four halves is rounded to the grid, and reads what those before it rounded
        steps = np.abs(found - real.numpy()).ravel() / (latents.unit / 2**28)
        assert steps.max() < 8
        assert float(np.sqrt(np.mean(steps**2))) < 1.2
        assert not np.array_equal(flown, k)
        assert np.array_equal(latents.from_prior(flown), k)


def change_layer(name: str, change: Callable[[torch.Tensor], None]) -> Graph:
    graph = random_half(np.random.default_rng(0), 3, 0, 1.0)
    layer = graph.operations[name]
    assert isinstance(layer, Convolve)
    change(layer.weight)
    return graph


@pytest.mark.parametrize(("layer", "place"), [
    ("a", (0, 0, 1, 2)), ("a", (0, 0, 2, 0)), ("a", (0, 2, 1, 1)), ("c", (3, 0, 3, 2)), ("c", (3, 0, 2, 3)),
    ("e", (0, 5, 0, 0)), ("e", (1, 4, 0, 0)),
])  # fmt: skip
def test_flows_that_read_later_positions_are_refused(layer: str, place: tuple[int, ...]) -> None:
    def spoil(weight: torch.Tensor) -> None:
        weight[place] = 1

    with pytest.raises(ModelFileError, match="later positions"):
        check_half(change_layer(layer, spoil), 0, 0, 3)


def test_flows_that_read_their_own_position_are_refused() -> None:
    def spoil(weight: torch.Tensor) -> None:
        weight[2, 1, 1, 1] = 1

    with pytest.raises(ModelFileError, match="not invertible"):
        check_half(change_layer("a", spoil), 0, 0, 3)
    turned = random_half(np.random.default_rng(0), 3, 1, 1.0)
    with pytest.raises(ModelFileError, match="later positions"):  # the first half reads earlier positions
        check_half(Graph(list(turned.operations.values()), {"shift.0.0": "e"}), 0, 0, 3)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (37, 70), (130, 50)], ids=str)
def test_images_come_back(size: tuple[int, int]) -> None:
    round_trip(ModelCodec(exported_model(FLOWS)), make_image(*size))


def test_chunks_do_not_change_a_file() -> None:
    images = [make_image(12, 8, seed) for seed in range(6)]
    model = exported_model(FLOWS)
    expected = ModelCodec(model).encode(images)
    assert max(expected.plan[1::3]) > 1, "some batch has several tiles"
    for chunk in (1, 2):
        assert round_trip(ModelCodec(model, Runtime(batch_tiles=chunk)), *images) == expected


def test_flows_of_any_strength_code() -> None:
    """Shifts far beyond the posterior's width, and images unlike those of calibration."""
    network = make_network(make_recipe(FLOWS), seed=3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".flows." in name and name.endswith("log_weight_norm"):
                parameter.add_(1.0)
    model = export(network, [random_crops(2, 32)]).model
    image = np.random.default_rng(0).integers(0, 256, (40, 33, 3), np.uint8)
    round_trip(ModelCodec(model), image)
