"""One process or many: what the processes that train one model together share.

Processes that torchrun starts, or any launcher that sets its variables, find one another through torch.distributed.
Gradients are averaged here and not by DistributedDataParallel: parts of a phased likelihood have no gradient in a run's
first steps, and the regularized weights are read outside of the forward pass. DistributedDataParallel would have to
search for the former at each step, and refuses the latter.
"""

import atexit
import os
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed

from nvae_codec.errors import NvaeCodecError

VARIABLES = ("RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher sets next to WORLD_SIZE."""
BUCKET = 1 << 22
"""Numbers that are averaged in one message: few messages, and no copy of all gradients."""
REST_SECONDS = 0.5
"""More than a thread of gloo needs to release the tensors of the last message."""


def choose_device(device: str) -> str:
    """``auto`` is CUDA where there is a GPU, and otherwise the CPU."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def end_group() -> None:
    """Destroy the process group, and wait for its threads before the interpreter ends.

    A thread that releases a Python object after the interpreter is gone aborts the process. If something still refers
    to the group, destroying it does not wait for its threads.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        time.sleep(REST_SECONDS)  # without the interpreter's lock, which the threads wait for


class Processes:
    """This process among ``count``, ``index`` from 0; only the first writes files."""

    def __init__(self, device: str) -> None:
        """``device``: auto, cpu or cuda; each process of a machine has a GPU of its own. Raises NvaeCodecError."""
        self.index, self.count, self.device = 0, 1, torch.device(choose_device(device))
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return
        if missing := [name for name in VARIABLES if not os.environ.get(name)]:
            raise NvaeCodecError(f"WORLD_SIZE is set, but not {', '.join(missing)}: start the processes with torchrun")
        try:
            if self.device.type == "cuda":
                self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", os.environ["RANK"])))
                torch.cuda.set_device(self.device)
            if not distributed.is_initialized():
                distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
                atexit.register(end_group)
        except (ValueError, RuntimeError) as error:  # also what torch.distributed raises
            raise NvaeCodecError(f"the processes of this run cannot be connected: {error}") from None
        self.index, self.count = distributed.get_rank(), distributed.get_world_size()

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
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.count

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of floats, of one shape each on all processes, by their means."""
        if self.count == 1:
            return
        for bucket in fill_buckets(tensors):
            flat = self.mean(torch.cat([tensor.reshape(-1).float() for tensor in bucket]))
            for tensor, mean in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(mean.view(tensor.shape))

    def any(self, wish: bool) -> bool:
        """Whether the flag is set in any process."""
        return wish if self.count == 1 else bool(self.mean(torch.tensor(float(wish), device=self.device)) > 0)


def fill_buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in groups of at most BUCKET numbers, or of one larger tensor."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(each.numel() for each in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
