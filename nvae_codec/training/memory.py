"""Memory: cells that are computed again instead of kept for the gradient, and the peak of a run."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nvae_codec.network.cells import ResidualCell
from nvae_codec.runtime import peak_resident_memory


def checkpoint_cells(network: nn.Module) -> None:
    """Keep the input of each residual cell alone for the backward pass, which computes it again (Chen et al. 2016).

    Gradients are the same bit for bit, and so are the statistics of batch normalisation: only the first pass counts.
    """
    for module in network.modules():
        if isinstance(module, ResidualCell):
            module.forward = partial(  # type: ignore[method-assign]
                checkpoint,
                module.forward,
                use_reentrant=False,
                preserve_rng_state=False,  # cells draw nothing
                context_fn=partial(_contexts, module),
            )


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), keep_statistics(module)


@contextmanager
def keep_statistics(network: nn.Module) -> Iterator[None]:
    """Within the block batch normalization updates copies of its running statistics, which so stay as they are."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
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


def peak_memory(device: torch.device) -> int:
    """The most bytes in use so far: of tensors on a GPU, on the CPU of the whole process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_memory()
