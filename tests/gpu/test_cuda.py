"""A CUDA device computes the CPU's integers, and files cross between the two. Skipped where there is none."""

import numpy as np
import pytest
import torch

from nvae_codec.integer.canary import check_canary
from nvae_codec.runtime import Runtime
from nvae_codec.zoo.library import find_model
from nvae_codec.zoo.load import load_codec, prepare_codec
from tests.models import RECIPES, exported_model, round_trip

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


@pytest.mark.parametrize("which", RECIPES)
def test_every_kind_of_model_passes_its_canary(which: str) -> None:
    model, device = exported_model(which), torch.device("cuda")
    check_canary(model.graph.to(device), model.canary, device)


@pytest.mark.parametrize("tf32", ["tf32", "ieee"])
def test_the_users_precision_does_not_matter(tf32: str) -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = tf32
        prepare_codec(exported_model(), Runtime("cuda"))
    finally:
        matmul.fp32_precision = before


@pytest.mark.parametrize("noise", [0, 6])
@pytest.mark.parametrize("sizes", [[(213, 331)], [(1, 1)], [(1, 40), (2, 2), (3, 90)], [(32, 32)] * 80])
def test_files_cross_between_cpu_and_cuda(sizes: list[tuple[int, int]], noise: int) -> None:
    """Images of odd sides and several tiles, without pixels in some planes, and many at once: smooth, and noisy."""
    rng, images = np.random.default_rng(0), []
    for height, width in sizes:
        rows, columns = np.mgrid[0:height, 0:width]
        smooth = 128 + 60 * np.sin(rows / 17)[..., None] + 50 * np.cos(columns / 23)[..., None]
        images.append(np.clip(smooth + rng.normal(0, noise, (height, width, 3)), 0, 255).astype(np.uint8))
    cpu, cuda = (load_codec(find_model("photo").path, Runtime(device)) for device in ("cpu", "cuda"))
    assert round_trip(cpu, *images, decoder=cuda) == round_trip(cuda, *images, decoder=cpu)
