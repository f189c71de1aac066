"""The paper's components as parts of a recipe: each learns, keeps its shapes, and reads only what it may."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.cells import ConstantMap, ResidualCell
from nvae_codec.network.convolution import FactorizedConv2d, WeightNormConv2d, applied_weight
from nvae_codec.network.flow import FlowPair, Shift
from nvae_codec.network.hierarchy import Hierarchy
from nvae_codec.network.nvae import Nvae
from nvae_codec.network.resample import ResamplingCell
from nvae_codec.recipes.files import format_recipe, parse_recipe
from nvae_codec.recipes.recipe import CellRecipe
from tests.models import OFFICIAL, change, random_crops

PAPER = change(
    OFFICIAL + "\n[image]\n[network.postprocess_cell]\nexpansion = 3\n[network.preprocess_cell]\nkind = 'regular'\n",
    "network.resampling = 'residual'", "network.top_size = 4", "network.flows = 1",
    "network.decoder_width = 12", "network.postprocess_cells = 3", "likelihood.kind = 'joint'",
)  # fmt: skip
VARIANTS = {
    "the paper's": PAPER,
    "two flows, elu, no norm": change(
        PAPER, "network.flows = 2", "network.encoder_cell.normalization = 'none'",
        "network.encoder_cell.activation = 'elu'", "network.encoder_cell.dilations = [2, 1, 1]",
    ),
    "separable encoder, regular decoder, absolute posteriors": change(
        PAPER, "network.encoder_cell.kind = 'separable'", "network.encoder_cell.kernel_groups = 8",
        "network.decoder_cell.kind = 'regular'", "network.residual_normal = false",
    ),
    "very deep": change(
        PAPER, "network.resampling = 'nearest'", "network.encoder_cell.kind = 'bottleneck'", "network.top_size = 0",
        "network.encoder_cell.normalization = 'none'", "network.decoder_cell.kind = 'bottleneck'",
        "network.decoder_cell.normalization = 'none'", "network.width_growth = 1",
    ),
    "very deep, its groups too": change(
        PAPER, "network.resampling = 'nearest'", "network.encoder_cell.kind = 'bottleneck'", "network.top_size = 1",
        "network.encoder_cell.normalization = 'none'", "network.decoder_cell.kind = 'bottleneck'",
        "network.decoder_cell.normalization = 'none'", "network.group = 'very_deep'", "network.groups = [2, 0, 1]",
        "network.scale_cells = [2, 0, 1]", "network.preprocess_blocks = 0", "network.scale_widths = [8, 12, 16]",
        "network.encoder_cell.activation = 'gelu'", "network.decoder_width = 0",
        "network.postprocess_cells = 1",
    ),
    "five bits": change(PAPER, "image.bits = 5"),
    "a normal": change(PAPER, "likelihood.kind = 'normal'"),
    "plain resampling": change(PAPER, "network.resampling = 'plain'"),
}  # fmt: skip


@pytest.mark.parametrize("which", VARIANTS)
def test_every_parameter_learns(which: str) -> None:
    recipe = parse_recipe(VARIANTS[which])
    assert parse_recipe(format_recipe(recipe)) == recipe
    torch.manual_seed(0)
    network = Nvae(recipe)
    elbo = network(random_crops(2, 16))
    assert [kl.shape for kl in elbo.kl] == [(2, 3)] * 3
    loss = torch.stack(elbo.pixels).sum() + torch.cat(elbo.kl, 1).sum()
    assert torch.isfinite(loss)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_padding_of_binary_images_is_not_coded() -> None:
    recipe = parse_recipe(change(
        PAPER, "image.channels = 1", "image.padding = 2", "likelihood.kind = 'bernoulli'", "training.crop = 12",
        "network.flows = 0",
    ))  # fmt: skip
    torch.manual_seed(0)
    network = Nvae(recipe)
    pixels = random_crops(2, 12)[:, :1]
    seen = network.normalize(pixels)
    assert seen.shape == (2, 1, 16, 16)
    assert set(seen.flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(F.pad(seen[:, :, 2:-2, 2:-2], [2] * 4, value=-1.0), seen)
    with torch.no_grad():
        bits = float(network(pixels).pixels[0]) / pixels.numel()
    assert 0.3 < bits < 1.5


@pytest.mark.parametrize("mirror", [False, True])
def test_a_shift_reads_only_what_comes_before(mirror: bool) -> None:
    torch.manual_seed(0)
    shift = Shift(3, mirror=mirror).double()
    z = torch.randn(1, 3, 5, 6, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(shift.mean, z)[0, :, :, :, 0]  # type: ignore[no-untyped-call]
    for row, column, channel in ((2, 3, 0), (2, 3, 2), (0, 0, 1), (4, 5, 1)):
        reads = jacobian[channel, row, column] != 0
        place = row * 6 + column
        flat = reads.flatten(1)
        after = flat[:, :place] if mirror else flat[:, place + 1 :]
        assert not after.any()
        assert not flat[channel:, place].any()
        assert flat[:channel, place].all()


def test_a_flow_preserves_volume() -> None:
    torch.manual_seed(0)
    pair = FlowPair(2).double()
    z = torch.randn(1, 2, 3, 3, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(pair, z).view(18, 18)  # type: ignore[no-untyped-call]
    assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(0, abs=1e-12)


def test_a_factorised_step_is_its_four_convolutions() -> None:
    torch.manual_seed(0)
    step, x = FactorizedConv2d(5, 9, weight_norm=True), torch.randn(2, 5, 6, 8)
    seen = [x, x[:, :, 1:, 1:], x[:, :, :, 1:], x[:, :, 1:]]
    parts = [nn.Sequential(part)(v[:, :, ::2, ::2]) for v, part in zip(seen, step.parts, strict=True)]
    assert torch.allclose(step(x), torch.cat(parts, 1), atol=1e-6)


def test_weights_are_normalised() -> None:
    torch.manual_seed(0)
    convolution = WeightNormConv2d(3, 4, 3)
    norms = convolution.applied_weight().flatten(1).norm(dim=1)
    assert torch.allclose(norms, convolution.log_weight_norm.exp().flatten(), rtol=1e-3)


@pytest.mark.parametrize("kind", ["regular", "separable"])
def test_cells_that_step_halve_and_double(kind: str) -> None:
    x = torch.randn(2, 8, 6, 10)
    recipe = CellRecipe(kind, 5, 2)
    assert ResamplingCell(8, 16, recipe, "down", weight_norm=True)(x).shape == (2, 16, 3, 5)
    assert ResamplingCell(8, 4, recipe, "up", weight_norm=True)(x).shape == (2, 4, 12, 20)


def test_the_start_is_repeated_for_larger_images() -> None:
    start = ConstantMap(2, 3)
    torch.nn.init.normal_(start.value)
    assert torch.equal(start(torch.zeros(4, 1, 3, 3))[3], start.value[0])
    wide = start(torch.zeros(1, 1, 2, 7))[0]
    assert wide.shape == (2, 2, 7)
    assert torch.equal(wide[:, :, 3:6], start.value[0, :, :2])


def branches(network: Nvae) -> list[ResidualCell]:
    return [cell for cell in network.modules() if isinstance(cell, ResidualCell)]


def last_convolution(cell: ResidualCell) -> nn.Conv2d:
    return [layer for layer in cell.body if isinstance(layer, nn.Conv2d)][-1]


def test_branches_start_smaller_by_the_root_of_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(Nvae(parse_recipe(VARIANTS["very deep, its groups too"])))
        monkeypatch.setattr(Hierarchy, "_scale_branches", lambda hierarchy: None)
    inside = len(branches(networks[0])) - 3  # a cell a group in the decoder
    for half, scaled, plain in zip([inside] * inside + [3] * 3, *map(branches, networks), strict=True):
        small, large = (applied_weight(last_convolution(cell)) for cell in (scaled, plain))
        assert torch.allclose(small * half**0.5, large, rtol=1e-4)
    combined = [network.hierarchy.groups[0].combine for network in networks]
    small, large = (applied_weight(convolution) for convolution in combined if isinstance(convolution, nn.Conv2d))
    assert torch.allclose(small * 3**0.5, large, rtol=1e-4)


def test_a_scale_may_have_no_group() -> None:
    recipe = parse_recipe(VARIANTS["very deep, its groups too"])
    network = Nvae(recipe)
    assert recipe.stride == 4
    assert network.latents == [3, 3, 3]
    shapes: list[tuple[int, ...]] = []

    def choose(_: int, prior: Tensor | None, posterior: Tensor) -> Tensor:
        shapes.append(tuple(posterior.shape[1:]))
        assert prior is None or prior.shape == posterior.shape
        return posterior[:, :3]

    features = network.hierarchy(torch.zeros(1, 3, 4, 8), torch.zeros(1, 1, 1, 2), choose)
    assert shapes == [(6, 1, 2), (6, 4, 8), (6, 4, 8)]
    assert features.shape == (1, 8, 4, 8)


def test_a_very_deep_prior_starts_standard() -> None:
    network = Nvae(parse_recipe(VARIANTS["very deep, its groups too"]))
    priors: list[Tensor] = []

    def choose(index: int, prior: Tensor | None) -> Tensor:
        priors.extend([prior] if prior is not None else [])
        return torch.randn(1, 3, 1 if not index else 4, 1 if not index else 4)

    network.hierarchy.generate(torch.zeros(1, 1, 1, 1), choose)
    assert len(priors) == 2
    assert not any(prior.any() for prior in priors)


def test_generation_needs_no_image() -> None:
    torch.manual_seed(0)
    network = Nvae(parse_recipe(PAPER)).eval()
    assert isinstance(network.hierarchy.postprocess, nn.Sequential)
    with torch.no_grad():
        features = network.hierarchy.generate(
            torch.zeros(2, 1, 4, 4), lambda i, _: torch.randn(2, 3, 4 << (i > 0), 4 << (i > 0))
        )
    assert features.shape == (2, 12, 16, 16)
