"""Every bit of an archive is some image's, and has a cause."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.container.archive.segment import Named
from nvae_codec.container.archive.writer import group_images, write_archive
from nvae_codec.evaluation import integer_elbo
from nvae_codec.evaluation.archives import measure_archive, share_bits
from nvae_codec.evaluation.images import Evaluator, sum_rows
from nvae_codec.evaluation.overhead import CAUSES
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import Chunk, RasterImage
from nvae_codec.zoo.library import Models
from tests.models import exported_model, make_image

CHUNKS = (Chunk(b"tEXt", b"Title\0a wave"), IDAT_PLACE)


def test_an_archives_bits_are_shared_to_the_last() -> None:
    codec = ModelCodec(exported_model())
    named: list[Named] = [(f"{i}.png", RasterImage.from_pixels(make_image(16, 20, i))) for i in range(7)]
    named += [("wide.png", RasterImage.from_pixels(make_image(70, 130), CHUNKS))]
    groups = list(group_images(named, 5, 1 << 22))
    out = io.BytesIO()
    list(write_archive(out, groups, method="model", models=Models(codec)))
    measured, described = measure_archive(Evaluator(codec, samples=2, seed=1), groups)
    assert described == {"segments": 2, "bytes": len(out.getvalue())}
    rows = [row for row, _ in measured]
    total = sum_rows(rows)
    assert total["file_bits"] == sum(total["bits"].values()) == 8 * len(out.getvalue())
    assert isinstance(total["file_bits"], int)
    assert total["bits"]["checksums"] == 64 * 3
    assert [row["name"] for row in rows] == [name for name, _ in named]
    for (name, image), (row, heat) in zip(named, measured, strict=True):
        assert tuple(row["bits"]) == CAUSES
        assert sum(row["bits"].values()) == sum(reversed(row["bits"].values())) == row["file_bits"]
        pixels = image.require_pixels("a test")
        assert row["bpd_integer_elbo"] == pytest.approx(integer_elbo(pixels, codec, seed=1, samples=2).bits_per_dim)
        assert (row["bits"]["metadata"] > 0) == (name == "wide.png")
        assert (row["bits"]["tile_edges"] != 0) == (row["tiles"] > 1)
        assert heat.shape == pixels.shape[:2]
        assert heat.sum() == pytest.approx(sum(part["file"] for part in (*row["groups"], *row["phases"])), rel=0.2)
    assert rows[0]["bits"]["start_up"] != 0, "the first of its segment"
    assert rows[1]["bits"]["start_up"] == 0 != rows[1]["bits"]["latent_rounding"]


def test_images_share_the_price_of_a_start() -> None:
    codec = ModelCodec(exported_model())
    named = [(f"{i}.png", RasterImage.from_pixels(make_image(16, 16, i))) for i in range(12)]
    evaluator = Evaluator(codec, samples=1)
    together = sum_rows([row for row, _ in measure_archive(evaluator, [named])[0]])
    alone = sum_rows([evaluator.measure(name, image)[0] for name, image in named])
    assert together["bpd_integer_elbo"] == pytest.approx(alone["bpd_integer_elbo"])
    assert together["file_over_integer"] < alone["file_over_integer"]
    assert together["bits"]["header"] < alone["bits"]["header"]


@given(st.integers(-(10**15), 10**15), st.integers(1, 1000))
def test_shares_add_up(units: int, count: int) -> None:
    bits = units / 2**20
    shares = share_bits(bits, count)
    assert len(shares) == count
    assert sum(shares) == bits
    assert max(shares) - min(shares) <= 2**-20
    assert np.isclose(shares[0], bits / count, atol=2**-19)
