"""One process or many: what the processes that train one model together share.

A process that nobody launched is alone and needs torch only. Those of ``accelerate launch`` and ``torchrun`` find one
another through accelerate. Gradients are averaged here rather than by DistributedDataParallel: parts of a phased
likelihood have no gradient in a run's first steps, and the regularised weights are read outside of the forward pass;
it would have to search for the former at each step, and refuses the latter.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nvae_codec.errors import NvaeCodecError

LAUNCHED = ("WORLD_SIZE", "ACCELERATE_MIXED_PRECISION")
"""Variables of which a launcher sets one at least."""


GIVE_UP_SECONDS = 0.5
"""What a thread of gloo needs, with much room, to let go of the tensors of the last collective."""


def end_group(destroy: Callable[[], None]) -> None:
    """Destroy the process group, and let its threads come to rest before the interpreter ends.

    One that lets go of a Python object once the interpreter is gone aborts the process. Where something still refers to
    the group, destroying it does not wait for them.
    """
    destroy()
    time.sleep(GIVE_UP_SECONDS)  # without the lock of the interpreter, which they wait for


class Processes:
    """This process among ``count``, ``index`` from 0; the first alone writes."""

    def __init__(self, device: str) -> None:
        """``device`` is cpu or cuda; a launched process has a GPU of its own. Raises NvaeCodecError."""
        self.index, self.count, self.device = 0, 1, torch.device(device)
        if not any(name in os.environ for name in LAUNCHED):
            return
        try:
            from accelerate import PartialState
        except ImportError:
            raise NvaeCodecError(
                "training with a launcher needs accelerate: python -m pip install 'nvae-codec[train]'"
            ) from None
        state = PartialState(cpu=device == "cpu")
        self.index, self.count, self.device = state.process_index, state.num_processes, state.device
        if self.count > 1:
            atexit.register(end_group, state.destroy_process_group)

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.index == 0

    def rows(self, batch: int) -> slice:
        """This process's rows of a batch. Raises NvaeCodecError where it has no equal parts."""
        if batch % self.count:
            raise NvaeCodecError(f"training.batch = {batch} is not a multiple of the {self.count} processes")
        part = batch // self.count
        return slice(self.index * part, (self.index + 1) * part)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes, the same bits on each."""
        if self.count == 1:
            return value
        from accelerate.utils import reduce

        averaged: Tensor = reduce(value, "mean")
        return averaged

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of floats, of one shape each on all processes, by their means."""
        if self.count == 1 or not tensors:
            return
        flat = self.mean(torch.cat([tensor.reshape(-1).float() for tensor in tensors]))
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def any(self, wish: bool) -> bool:
        """Whether any process wishes it."""
        return wish if self.count == 1 else bool(self.mean(torch.tensor(float(wish), device=self.device)) > 0)
