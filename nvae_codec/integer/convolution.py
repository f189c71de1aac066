"""Convolutions of integers whose every way of summing is known, on each kind of device.

On the CPU all of torch's paths but NNPACK sum products of the very inputs, which is exact on integers. On CUDA
cuDNN may transform inputs and weights first (Winograd, FFT), which is not; matrix products without TF32, and sums of
shifted products, are (docs/exactness.md).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    """w * x + b, (B, I, H, W) to (B, O, H', W'), in the dtype of the inputs, whose sums it must hold."""
    if x.device.type == "cpu":
        return F.conv2d(x, weight, bias, stride, padding, 1, groups)
    return convolve_by_products(x, weight, bias, stride, padding, groups)


def pack_pointwise(weight: Tensor) -> Tensor | None:
    """The kernel (O, I, 1, 1) of a pointwise convolution in oneDNN's own layout, or None if torch has no such layout.

    oneDNN computes with it twice as fast: 95 instead of 48 billion products a second on one core, 96 to 48 channels.
    """
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    try:
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        packed: Tensor = reorder(weight.to_mkldnn(), (0, 0), (1, 1), (1, 1), 1, [1, weight.shape[1], 16, 64])
        convolve_packed(torch.zeros(1, weight.shape[1], 16, 1), packed, weight.new_zeros(len(weight)))
    except (AttributeError, RuntimeError, TypeError):  # functions that torch uses itself, but does not document
        return None
    return packed


def convolve_packed(x: Tensor, packed: Tensor, bias: Tensor) -> Tensor:
    """A pointwise convolution on the CPU with a kernel of :func:`pack_pointwise`."""
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, packed, bias, [0, 0], [1, 1], [1, 1], 1, "none", [], "")
    return out


def convolve_by_products(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    """The same by matrix products alone, and by sums of shifted products where a channel sees only itself."""
    b, _, h, w = x.shape
    kernel = weight.shape[2]
    rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in (h, w))
    if weight.shape[1] == 1 and weight.shape[0] == groups:
        total = bias.view(1, -1, 1, 1).expand(b, -1, rows, columns)
        padded = F.pad(x, [padding] * 4)
        for down in range(kernel):
            for right in range(kernel):
                seen = padded[:, :, down : down + stride * (rows - 1) + 1 : stride]
                seen = seen[:, :, :, right : right + stride * (columns - 1) + 1 : stride]
                total = torch.addcmul(total, seen, weight[:, :, down, right].view(1, -1, 1, 1))
        return total
    if kernel == 1 and stride == 1 and groups == 1 and not padding:
        # channels_last: the places are the rows of a matrix already
        seen = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        return torch.addmm(bias, seen, weight.flatten(1).T).view(b, h, w, -1).permute(0, 3, 1, 2)
    parts = []
    for part, kernels in zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        seen = F.unfold(part, kernel, padding=padding, stride=stride).transpose(1, 2)
        parts.append(torch.matmul(seen, kernels.flatten(1).T))
    whole = torch.cat(parts, 2) + bias
    return whole.view(b, rows, columns, -1).permute(0, 3, 1, 2)
