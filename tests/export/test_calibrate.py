"""What calibration sees: ranges of all values, and latents in prior units."""

import pytest
import torch

from nvae_codec.export.calibrate import calibrate
from nvae_codec.export.export import export
from nvae_codec.export.trace import trace
from tests.models import make_network, make_recipe, random_crops


def test_bin_widths_follow_posterior_sigmas_in_prior_units() -> None:
    """A wider prior widens a residual posterior with it: nothing changes for the grid."""
    network = make_network(make_recipe())
    before = export(network, [random_crops(2, 64)]).model.groups[1].bin_widths
    head = network.hierarchy.groups[1].prior_head
    assert isinstance(head, torch.nn.Sequential)
    with torch.no_grad():
        assert isinstance(head[1].bias, torch.Tensor)
        head[1].bias[network.latents[1] :] += 1.0
    after = export(network, [random_crops(2, 64)]).model.groups[1].bin_widths
    assert after == pytest.approx(before, rel=0.2)
    assert all(64 <= step <= 4096 for step in before)


def test_ranges_are_the_largest_values_of_all_batches() -> None:
    network = make_network(make_recipe())
    traced, dark = trace(network), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    both = calibrate(traced, network, [dark, dark + 200])
    for pixels in (dark, dark + 200):
        x = network.normalize(pixels)
        stem = network.hierarchy.encoder.stem(torch.nn.functional.pixel_unshuffle(x, 4)).abs().amax((0, 2, 3))
        name = next(name for name in both.ranges if name.endswith("encoder_stem"))
        assert bool((both.ranges[name] >= stem * 0.999).all())
    assert [len(latents.kl) for latents in both.latents] == network.latents
    assert all(bool((latents.kl >= 0).all()) for latents in both.latents)


def test_calibration_is_the_same_each_time() -> None:
    network = make_network(make_recipe())
    one, other = (calibrate(trace(network), network, [random_crops(2, 32)]) for _ in range(2))
    assert all(torch.equal(one.ranges[name], other.ranges[name]) for name in one.ranges)
    assert all(torch.equal(a.sigma, b.sigma) for a, b in zip(one.latents, other.latents, strict=True))
