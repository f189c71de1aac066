"""What each prior, posterior and phase depends on: never on what the decoder does not know yet."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nvae_codec import ports
from nvae_codec.network.nvae import Nvae
from nvae_codec.polyphase import Plane, list_phases
from tests.models import RECIPES, make_network, make_recipe, predict_all, random_crops

Outputs = dict[str, Tensor]


def run(network: Nvae, image: Tensor, z: Callable[[int, Tensor], Tensor]) -> Outputs:
    """All raw parameters for an image in [-1, 1] and chosen latents."""
    outputs: Outputs = {}

    def choose(group: int, prior: Tensor | None, posterior: Tensor) -> Tensor:
        outputs[f"posterior.{group}"] = posterior
        if prior is not None:
            outputs[f"prior.{group}"] = prior
        return z(group, posterior[:, : posterior.shape[1] // 2])

    def look(plane: Plane) -> Tensor:
        return image[:, :, plane.row :: plane.stride, plane.column :: plane.stride]

    with torch.inference_mode():
        features = network.hierarchy(image, network.blank(image), choose)
        predict_all(network, features, look, lambda name, raw: outputs.update({name: raw}))
    return outputs


def fixed_z(changed: int | None = None) -> Callable[[int, Tensor], Tensor]:
    """The same latents whatever the image, those of one group changed."""

    def choose(group: int, like: Tensor) -> Tensor:
        z = torch.sin(torch.arange(like.numel(), dtype=torch.float32) * (group + 1)).view_as(like)
        return z + 1 if group == changed else z

    return choose


def differing(a: Outputs, b: Outputs) -> set[str]:
    return {name for name in a if not torch.equal(a[name], b[name])}


@pytest.fixture(params=RECIPES)
def network(request: pytest.FixtureRequest) -> Nvae:
    return make_network(make_recipe(request.param))


def test_priors_do_not_see_the_image(network: Nvae) -> None:
    one, other = (network.normalize(random_crops(1, 32, seed)) for seed in (0, 9))
    changed = differing(run(network, one, fixed_z()), run(network, other, fixed_z()))
    assert changed.isdisjoint({f"prior.{group}" for group in range(len(network.latents))})
    assert changed >= {f"posterior.{group}" for group in range(len(network.latents))}
    assert "pixels.0" not in changed


def test_latents_reach_later_groups_and_pixels_only(network: Nvae) -> None:
    image = network.normalize(random_crops(1, 32))
    before = run(network, image, fixed_z())
    for group in range(len(network.latents)):
        changed = differing(before, run(network, image, fixed_z(group)))
        later = {f"prior.{g}" for g in range(group + 1, len(network.latents))}
        assert later | {f"pixels.{i}" for i in range(len(network.likelihood.phases))} <= changed
        assert changed.isdisjoint({f"{kind}.{g}" for g in range(group + 1) for kind in ("prior", "posterior")})


@pytest.mark.parametrize("which", [name for name in RECIPES if name.startswith("phases")])
def test_phases_see_only_earlier_planes(which: str) -> None:
    network = make_network(make_recipe(which))
    image = network.normalize(random_crops(1, 32))
    before = run(network, image, fixed_z())
    phases = list_phases(network.recipe.likelihood.scales)
    for index, phase in enumerate(phases):
        plane = phase.plane
        other = image.clone()
        other[:, :, plane.row :: plane.stride, plane.column :: plane.stride] += 0.25
        changed = differing(before, run(network, other, fixed_z()))
        pixels = {name for name in changed if name.startswith("pixels")}
        # of the levels after its own every phase sees it, of its own level those that name it
        seen_by = {
            ports.pixels(later, expert)
            for expert in range(network.recipe.likelihood.experts)
            for later, candidate in enumerate(phases)
            if later > index and any(reads(known, plane) for known in candidate.known)
        }
        assert pixels >= seen_by
        assert all(int(name.split(".")[1]) > index for name in pixels)


def reads(known: Plane, plane: Plane) -> bool:
    """Whether a known plane holds pixels of another."""
    return (
        plane.stride % known.stride == 0
        and plane.row % known.stride == known.row
        and plane.column % known.stride == known.column
    )
