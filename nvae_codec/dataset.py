"""An archive as a data set of torch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nvae_codec.container.archive.reader import Archive
from nvae_codec.runtime import Runtime
from nvae_codec.zoo.library import ImageCodec, Models


class ArchiveDataset(Dataset[Tensor]):
    """The images of an archive by their index, uint8 (C, H, W); gray has one channel.

    Each process reads for itself: the archive and its model are opened when an image is first asked for, so a
    ``DataLoader`` may have workers. The segment read last is kept: reading in order decodes each segment once, reading
    at random one an image.

    Examples::

        loader = DataLoader(nvae_codec.ArchiveDataset("train.nvae"), batch_size=64, num_workers=2)
    """

    def __init__(self, path: str | Path, *, model: str | Path | ImageCodec | None = None, device: str = "cpu") -> None:
        """``model`` is one that is not installed, if the archive was made by it.

        Raises DamagedFileError for what is no archive or has no sound index, and OSError.
        """
        self.path, self._model, self._device = Path(path), model, device
        self._opened = self._open()
        self.names: list[str] = self._opened[1].names

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """An image; raises as ``Archive.read`` does."""
        if self._opened[0] != os.getpid():  # what a parent loaded is not for use after a fork
            self._opened = self._open()
        pixels = self._opened[1].read(int(index))
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return torch.from_numpy(np.array(planes))

    def _open(self) -> tuple[int, Archive]:
        return os.getpid(), Archive(self.path, Models(self._model, Runtime(self._device)))
