"""The pyramid start: latents carry the image, and priors begin at their neighbours' mean."""

import pytest
import torch
from torch import Tensor

from nvae_codec.errors import RecipeError
from nvae_codec.likelihoods.colourwise import split_mixture
from nvae_codec.network.normal import normal_of_raw
from nvae_codec.network.nvae import Nvae
from nvae_codec.network.pyramid import COLOURS
from nvae_codec.polyphase import Plane
from tests.models import make_recipe, random_crops

STARTS = {
    "two scales": ("pyramid", "[3, 4]"),
    "scaled means": ("pyramid", "[3, 4]"),
    "one scale": ("pyramid", "[4]"),
    "three scales": ("pyramid", "[3, 3, 4]"),
    "phases": ("phases on a pyramid", "[4]"),
    "phases, two scales": ("phases on a pyramid", "[3, 4]"),
}


def start(which: str) -> Nvae:
    name, groups = STARTS[which]
    torch.manual_seed(1)
    scale = 0.1 if which == "scaled means" or "phases" in which else 1.0
    return Nvae(make_recipe(name, f"network.groups = {groups}", f"likelihood.mean_scale = {scale}")).eval()


def posterior_means(network: Nvae, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Means of the first phase's mixture (B, 3, K, h, w) with each z at its posterior's mean, and those a group.

    Of each group (posterior, prior).
    """
    means: list[tuple[Tensor, Tensor]] = []
    raws: list[Tensor] = []

    def choose(_: int, prior: Tensor | None, posterior: Tensor) -> Tensor:
        z = normal_of_raw(posterior, posterior).mean
        means.append((z, normal_of_raw(prior, posterior).mean))
        return z

    with torch.no_grad():
        features = network.hierarchy(x, network.blank(x), choose)
        network.likelihood(features, lambda _: x, lambda _, raw: raws.append(raw), 1)
    mixture = split_mixture(raws[0], network.recipe.likelihood)
    return mixture.mean, means


def look(plane: Plane, x: Tensor) -> Tensor:
    return x[:, :, plane.row :: plane.stride, plane.column :: plane.stride]


def test_colours_are_orthonormal() -> None:
    torch.testing.assert_close(COLOURS @ COLOURS.T, torch.eye(3))


@pytest.mark.parametrize("which", STARTS)
def test_latents_carry_every_pixel(which: str) -> None:
    """Of random noise, which nothing but the latents can tell; each within three levels, but for strong colours."""
    network = start(which)
    x = network.normalize(torch.randint(64, 192, (2, 3, 32, 32)).byte())
    means, _ = posterior_means(network, x)
    seen = look(network.likelihood.phases[0].plane, x)
    assert means.shape[3:] == seen.shape[2:]
    assert float((means - seen[:, :, None]).abs().max()) < 3 / 127.5


@pytest.mark.parametrize("which", STARTS)
def test_priors_begin_at_the_neighbours_mean(which: str) -> None:
    """Which on a slope is the pixel itself, and so the posterior's mean."""
    network = start(which)
    y, x = torch.meshgrid(torch.linspace(-0.06, 0.06, 64), torch.linspace(-0.04, 0.04, 64), indexing="ij")
    slope = (x + y).expand(1, 3, 64, 64) + torch.tensor([0.02, 0.0, -0.02]).view(1, 3, 1, 1)
    _, groups = posterior_means(network, slope)
    for posterior, prior in groups[1:]:
        inside = (posterior - prior)[:, :, 1:-1, 1:-1]
        assert float(inside.abs().max()) < 0.02
        assert float(posterior.abs().max()) > 0.2


def test_it_begins_far_below_a_random_start() -> None:
    pixels = random_crops(4, 32)
    random = make_recipe("pyramid", "network.pyramid_start = false")
    with torch.no_grad():
        bits = [
            float(sum(part.sum() for part in [*elbo.kl, *elbo.pixels])) / pixels.numel() / 0.6931
            for elbo in (start("two scales")(pixels), Nvae(random)(pixels))
        ]
    assert bits[0] < bits[1] - 0.5


@pytest.mark.parametrize(
    ("wrong", "needs"),
    [
        ("network.groups = [2, 4]", "network.groups"),
        ("network.latents = [4]", "network.latents"),
        ("network.width = 28", "network.width"),
        ("network.patch = 1", "network.patch"),
        ("network.residual_normal = false", "network.residual_normal"),
        ("network.posterior_reads_prior = false", "network.posterior_reads_prior"),
        ("network.encoder_cell.kind = 'regular'", "network.encoder_cell.kind"),
        ("network.encoder_cell.activation = 'elu'", "network.encoder_cell.activation"),
        ("network.decoder_cell.activation = 'elu'", "network.decoder_cell.activation"),
        ("network.decoder_cell.kernel = 1", "network.decoder_cell.kernel"),
        ("network.decoder_cell.residual_scale = 0.1", "without gates or scale"),
        ("likelihood.kind = 'joint'", "likelihood.kind"),
        ("network.flows = 1", "network.flows"),
    ],
)
def test_what_does_not_fit_is_named(wrong: str, needs: str) -> None:
    with pytest.raises(RecipeError, match=needs):
        make_recipe("pyramid", wrong)
