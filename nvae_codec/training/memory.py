"""Memory: cells that are computed again rather than kept for the gradient, and how much was used at most."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nvae_codec.network.cells import ResidualCell


def checkpoint_cells(network: nn.Module) -> None:
    """Keep the input of each residual cell alone for the backward pass, which computes it again (Chen et al. 2016).

    Gradients are the same bit for bit, and so are the statistics of batch normalisation: only the first pass counts.
    """
    for module in network.modules():
        if isinstance(module, ResidualCell):
            norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
            module.forward = partial(  # type: ignore[method-assign]
                checkpoint,
                module.forward,
                use_reentrant=False,
                preserve_rng_state=False,  # cells draw nothing
                context_fn=partial(_contexts, norms),
            )


def _contexts(norms: list[nn.BatchNorm2d]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _without_statistics(norms)


@contextmanager
def _without_statistics(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Batch normalisation whose running statistics are copies, so that they themselves stay as they are."""
    kept = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, value in buffers.items():
                setattr(norm, name, value)


def peak_memory(device: torch.device) -> int | None:
    """The most bytes in use so far: of tensors on a GPU, on the CPU of the whole process; None where none can tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
