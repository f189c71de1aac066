"""Half precision: the dtype of a run's networks, and the layers that stay in float32."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from nvae_codec.network.cells import ResidualCell
from nvae_codec.network.normal import widen
from nvae_codec.network.nvae import Nvae
from nvae_codec.network.pyramid import carrying_parts

AUTOCAST = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
FIRST_LOSS_SCALE = 1024.0
"""Of fp16, as in the official code; it follows the gradients from there."""


def keep_latents_precise(network: Nvae, device: torch.device, half: torch.dtype) -> None:
    """Keep float32 where latents that carry pixels pass; branches and the later phases stay in half precision.

    bfloat16 has eight bits, and such a latent reaches 200 times its sigma (docs/training.md).
    """
    for module in carrying_parts(network.hierarchy, network.likelihood):
        module.forward = _under(None, device, module.forward)
        for cell in module.modules():
            if isinstance(cell, ResidualCell):
                cell.body.forward = _under(half, device, cell.body.forward)  # type: ignore[method-assign]


def _under(dtype: torch.dtype | None, device: torch.device, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A module's forward under autocast to a dtype, whatever it is called under; None is float32."""

    @wraps(forward)
    def called(*inputs: Any) -> Any:
        if dtype is None:
            inputs = tuple(widen(each) if isinstance(each, Tensor) else each for each in inputs)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return forward(*inputs)

    return called
