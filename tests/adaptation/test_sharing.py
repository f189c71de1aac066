"""One adaptation for all segments of an archive."""

from pathlib import Path

import numpy as np
import pytest

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.container.archive.reader import Archive
from nvae_codec.container.archive.sharing import choose_shared
from nvae_codec.container.archive.writer import write_archive
from nvae_codec.container.extensions import ADAPTATION
from nvae_codec.images.raster import RasterImage
from nvae_codec.zoo.library import Models
from tests.adaptation.models import adaptable_model, odd_image

MODELS = Models(ModelCodec(adaptable_model()))
IMAGES = [RasterImage.from_pixels(np.roll(odd_image(64, 64), 5 * shift, 1)) for shift in range(24)]
GROUPS = [[(f"{4 * at + k}.png", IMAGES[4 * at + k]) for k in range(4)] for at in range(6)]


def write(path: Path, effort: int, shared: bytes = b"", base: Archive | None = None) -> Archive:
    with path.with_suffix(".part").open("wb") as out:
        groups = GROUPS if base is None else [[("more.png", IMAGES[0])]]
        list(write_archive(out, groups, method="model", models=MODELS, effort=effort, base=base, shared=shared))
    path.with_suffix(".part").replace(path)
    return Archive(path, MODELS)


def blocks(archive: Archive) -> list[int]:
    return [block.type for block in archive.extensions]


def test_small_segments_share_an_adaptation_and_are_read_one_by_one(tmp_path: Path) -> None:
    shared = choose_shared(GROUPS, lambda image: image, MODELS, 4)
    alone, together = write(tmp_path / "alone.nvae", 4), write(tmp_path / "together.nvae", 4, shared)
    assert blocks(alone) == []
    assert blocks(together) == [ADAPTATION.number]
    assert together.file_bytes < alone.file_bytes
    for at in (23, 5):
        assert np.array_equal(together.read_image(at).require_pixels("a test"), IMAGES[at].require_pixels("a test"))


def test_what_is_appended_uses_the_adaptation_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.nvae"
    base = write(path, 4, choose_shared(GROUPS, lambda image: image, MODELS, 4))
    appended = write(path, 1, b"another", base)
    assert appended.extensions == base.extensions
    assert np.array_equal(appended.read_image(24).require_pixels("a test"), IMAGES[0].require_pixels("a test"))
    plain = write(tmp_path / "b.nvae", 1)
    assert blocks(write(tmp_path / "b.nvae", 4, b"another", plain)) == []


@pytest.mark.parametrize(("groups", "effort"), [(GROUPS, 1), (GROUPS[:1], 4)])
def test_nothing_is_shared_by_one_segment_or_at_the_first_effort(
    groups: list[list[tuple[str, RasterImage]]], effort: int
) -> None:
    assert choose_shared(groups, lambda image: image, MODELS, effort) == b""


def test_images_that_cannot_be_read_count_for_nothing() -> None:
    def read(image: RasterImage) -> RasterImage:
        raise OSError

    assert choose_shared(GROUPS, read, MODELS, 4) == b""
