"""Memory: gradient checkpointing of cells, and the peak memory of a run."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nvae_codec.network.cells import ResidualCell
from nvae_codec.runtime import peak_resident_memory


def checkpoint_cells(network: nn.Module) -> None:
    """Keep only the input of each residual cell, and compute the cell again in the backward pass (Chen et al. 2016).

    Gradients and the statistics of batch normalization are the same bit for bit: the second pass does not update them.
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
    """A context in which batch normalization does not change its running statistics: it updates copies."""
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
