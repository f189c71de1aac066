"""Lossless image compression with a trained NVAE and bits-back ANS coding.

    import nvae_codec

    data = nvae_codec.compress(pixels)  # uint8 (H, W, 3) to bytes
    assert (nvae_codec.decompress(data) == pixels).all()

Torch is imported when a model is first needed, not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nvae_codec.container.archive.reader import Archive
    from nvae_codec.dataset import ArchiveDataset
    from nvae_codec.images.layout import Samples
    from nvae_codec.run import Run
    from nvae_codec.zoo.library import ImageCodec, Models

_CLONE = Path(__file__).parents[1]
if not (Path(__file__).parent / "cli").is_dir() and (_CLONE / "cli" / "main.py").is_file():
    # In a clone, cli/ and models/ are next to this package; in an installation they are inside it.
    __path__.append(str(_CLONE))

__all__ = ["ArchiveDataset", "__version__", "compress", "decompress", "load_model", "open_archive", "open_run"]
__version__ = "0.1.0"


def load_model(
    name_or_path: str | Path = "photo",
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_tiles: int | None = None,
) -> ImageCodec:
    """Load a model once, to pass it to ``compress`` and ``decompress`` many times.

    ``name_or_path`` is the name of an installed model, a model file, a folder that contains one, or ``hf://ORG/NAME``.
    ``device`` (auto, cpu, cuda), ``threads`` and ``batch_tiles`` (the number of tiles that the network evaluates
    together) change speed and memory only, never the bytes of a file or their meaning.

    Raises UnknownModelError, ModelFileError, NumericsError if the self-test fails on this machine, NvaeCodecError for
    other devices and for ``threads`` and ``batch_tiles`` below 1, and TypeError for arguments of another type.
    """
    return _models(name_or_path, device=device, threads=threads, batch_tiles=batch_tiles).chosen()


def compress(
    pixels: Samples,
    *,
    model: str | Path | ImageCodec = "photo",
    method: str = "auto",
    effort: int = 5,
    device: str = "auto",
    threads: int | None = None,
    batch_tiles: int | None = None,
) -> bytes:
    """Compress pixels, uint8 of shape (H, W, 3) in RGB order or (H, W) of gray, into the bytes of an .nvae file.

    They may be uint16 too, of which a model of 8 bits codes the high bytes, and ``webp`` is no method.
    A model of gray takes gray alone, one of less than 8 bits the values from 0 or those spread over 0 to 255.

    ``method`` is ``"model"``, ``"webp"``, ``"stored"``, or ``"auto"`` for the smallest of the three. ``model`` is a
    name, a path, or what ``load_model`` gave, for which ``device``, ``threads`` and ``batch_tiles`` were set there.
    ``effort``, from 1 to 9: how long to adapt the model to the image (docs/adaptation.md); 1 does not.

    Raises TypeError and ValueError for other arrays, methods or efforts, UnsupportedImageError for more pixels than
    Pillow's limit or sides that the method cannot hold, and what ``load_model`` raises.
    """
    from nvae_codec.container.methods import write_file
    from nvae_codec.images.samples import image_of

    codecs = _models(model, device=device, threads=threads, batch_tiles=batch_tiles)
    return write_file(image_of(pixels, (1, 3)), method, codecs, effort)


def decompress(
    data: bytes,
    *,
    model: str | Path | ImageCodec | None = None,
    device: str = "auto",
    threads: int | None = None,
    batch_tiles: int | None = None,
) -> Samples:
    """The pixels of an .nvae file: an array of shape (H, W, 3) for RGB, uint8, or uint16 for 16 bits per sample.

    Gray images give (H, W), gray with alpha (H, W, 2), and RGBA (H, W, 4); those of 1 bit have the values 0 and 1. The
    installed model that made the file is found by its identity; ``model`` adds one that is not installed.

    Raises TypeError if ``data`` is not bytes, DamagedFileError if it is incomplete or was altered, UnknownModelError if
    its model is not installed, UnsupportedImageError for palettes and for 2 and 4 bits per sample, which only
    ``nvae-codec decompress`` restores, and what ``load_model`` raises.
    """
    from nvae_codec.container.image import read_file
    from nvae_codec.images.samples import samples_of

    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data must be the bytes of an .nvae file, not {type(data).__name__}")
    codecs = _models(model, device=device, threads=threads, batch_tiles=batch_tiles)
    return samples_of(read_file(bytes(data), codecs), "decompress")


def open_archive(
    path: str | Path,
    *,
    model: str | Path | ImageCodec | None = None,
    device: str = "auto",
    threads: int | None = None,
    batch_tiles: int | None = None,
) -> Archive:
    """Open an archive of ``nvae-codec pack``: its ``names``, ``sizes`` (height, width), ``read(name or index)``.

    Raises DamagedFileError if it is not an archive or its index is damaged, OSError, and what ``load_model`` raises.
    """
    from nvae_codec.container.archive.reader import Archive

    return Archive(path, _models(model, device=device, threads=threads, batch_tiles=batch_tiles))


def open_run(run: str | Path) -> Run:
    """Open a training run in float: priors, posteriors and latents of images, and images from chosen latents.

    ``run`` is a run's folder, a checkpoint file, or the name of a model whose checkpoint is installed with it. Raises
    NvaeCodecError for what is no run, OSError.
    """
    from nvae_codec.run import open_run

    return open_run(run)


def __getattr__(name: str) -> Any:
    if name != "ArchiveDataset":
        raise AttributeError(f"nvae_codec has no {name}")
    from nvae_codec.dataset import ArchiveDataset  # with torch, which nothing else here needs at once

    return ArchiveDataset


def _models(
    model: str | Path | ImageCodec | None, *, device: str, threads: int | None, batch_tiles: int | None
) -> Models:
    from nvae_codec.runtime import Runtime
    from nvae_codec.zoo.library import Models

    return Models(model, Runtime(device, threads, batch_tiles))
