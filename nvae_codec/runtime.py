"""How the network is evaluated: the device, the CPU threads, and how much at once. Never what a file says."""

import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nvae_codec.errors import NvaeCodecError

DEVICES = ("auto", "cpu", "cuda")
"""auto: CUDA where there is a device that computes the model's integers, otherwise the CPU."""


@dataclass(frozen=True)
class Runtime:
    """Settings that change speed and memory, and never a byte of a file.

    device: one of ``DEVICES``. threads: of torch on the CPU, None for as many as it has. batch_tiles: how many tiles
    the network sees at once, None for all tiles of a batch. Raises NvaeCodecError for other devices and for numbers
    below 1, TypeError for what is not an integer.
    """

    device: str = "auto"
    threads: int | None = None
    batch_tiles: int | None = None

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise NvaeCodecError(f"there is no device {self.device!r}; there are {', '.join(DEVICES)}")
        for name, count in (("threads", self.threads), ("batch_tiles", self.batch_tiles)):
            if count is not None and operator.index(count) < 1:
                raise NvaeCodecError(f"{name} must be at least 1, not {count}")

    @contextmanager
    def scope_threads(self) -> Iterator[None]:
        """Give torch this number of threads inside of the block, and restore the user's afterwards."""
        import torch  # imported here: whatever needs no network starts without it

        before = torch.get_num_threads()
        try:
            if self.threads is not None:
                torch.set_num_threads(self.threads)
            yield
        finally:
            if self.threads is not None:
                torch.set_num_threads(before)


def peak_resident_memory() -> int:
    """The largest resident memory of this process so far, in bytes; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage gives on Linux may be the parent's
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
