"""An archive as a data set of torch."""

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
    """The images of an archive by index, as tensors uint8 (C, H, W); gray images have one channel.

    Each process opens the archive and loads the model for itself, so a ``DataLoader`` may have workers. The segment
    read last is kept: sequential access decodes each segment once, random access decodes a segment for each image.

    Examples::

        loader = DataLoader(nvae_codec.ArchiveDataset("train.nvae"), batch_size=64, num_workers=2)
    """

    def __init__(self, path: str | Path, *, model: str | Path | ImageCodec | None = None, device: str = "cpu") -> None:
        """``model``: the model that made the archive, if it is not installed.

        Raises DamagedFileError if it is not an archive or its index is damaged, and OSError.
        """
        self.path, self._model, self._device = Path(path), model, device
        self._opened = self._open()
        self.names: list[str] = self._opened[1].names

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """An image; raises as ``Archive.read`` does."""
        if self._opened[0] != os.getpid():  # torch's threads do not survive a fork
            self._opened = self._open()
        pixels = self._opened[1].read(int(index))
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return torch.from_numpy(np.array(planes))

    def _open(self) -> tuple[int, Archive]:
        return os.getpid(), Archive(self.path, Models(self._model, Runtime(self._device)))
