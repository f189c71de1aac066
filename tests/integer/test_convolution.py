"""The two ways of convolving integers agree to the last bit, so that a GPU computes the CPU's integers."""

import pytest
import torch

from nvae_codec.integer import operations
from nvae_codec.integer.canary import check_canary
from nvae_codec.integer.convolution import convolve, convolve_by_products
from nvae_codec.integer.inference import exact_inference
from tests.models import exported_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("channels", "out", "kernel", "stride", "padding", "groups"),
    [
        (6, 10, 1, 1, 0, 1), (6, 10, 3, 1, 1, 1), (6, 10, 3, 2, 1, 1), (8, 8, 5, 1, 2, 8), (8, 8, 5, 2, 2, 8),
        (8, 12, 3, 1, 1, 4), (6, 10, 1, 2, 0, 1), (4, 4, 1, 1, 0, 4), (6, 8, 2, 2, 0, 1), (5, 1, 1, 1, 0, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 12)])
def test_products_give_the_convolution(
    dtype: torch.dtype, channels: int, out: int, kernel: int, stride: int, padding: int, groups: int,
    height: int, width: int,
) -> None:  # fmt: skip
    torch.manual_seed(channels * 31 + kernel)
    x = torch.randint(-4095, 4096, (3, channels, height, width)).to(dtype).contiguous(memory_format=torch.channels_last)
    # as large as sums may be: the next integer would not fit
    reach = 2 ** (24 if dtype is torch.float32 else 40) // (4095 * channels // groups * kernel**2) - 1
    weight = torch.randint(-reach, reach + 1, (out, channels // groups, kernel, kernel)).to(dtype)
    bias = torch.randint(-4095, 4096, (out,)).to(dtype)
    with exact_inference(torch.device("cpu")):
        ours = convolve_by_products(x, weight, bias, stride, padding, groups)
        torchs = convolve(x, weight, bias, stride, padding, groups)
    assert torch.equal(ours, torchs)
    assert ours.dtype == torchs.dtype


def test_a_whole_model_by_products_passes_its_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported_model()
    monkeypatch.setattr(operations, "convolve", convolve_by_products)
    check_canary(model.graph, model.canary, torch.device("cpu"))
