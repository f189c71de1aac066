"""Every bit of a file has a cause, and the causes add up."""

import numpy as np
import pytest

from nvae_codec import compress
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.ledger import Ledger
from nvae_codec.evaluation import integer_elbo
from nvae_codec.evaluation.archives import measure_archive
from nvae_codec.evaluation.elbo import importance_bound, integer_draws, mean_of
from nvae_codec.evaluation.images import Evaluator, sum_rows
from nvae_codec.evaluation.overhead import CAUSES
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import Chunk, RasterImage
from tests.adaptation.models import adaptable_model, odd_image
from tests.models import RECIPES, exported_model, exported_network, make_image

SIZES = [(1, 1), (33, 20), (64, 64), (130, 200)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", ["phases of two levels", "official: batch norm, gates, swish"])
def test_the_causes_add_up_to_the_files_bits(which: str, size: tuple[int, int]) -> None:
    codec, pixels = ModelCodec(exported_model(which)), make_image(*size)
    row, heat = Evaluator(codec, samples=2, seed=3).measure("it", RasterImage.from_pixels(pixels))
    assert tuple(row["bits"]) == CAUSES
    assert sum(row["bits"].values()) == row["file_bits"] == 8 * len(compress(pixels, model=codec, method="model"))
    assert sum(reversed(row["bits"].values())) == row["file_bits"]
    exact = integer_elbo(pixels, codec, seed=3, samples=2)
    assert row["bpd_integer_elbo"] == pytest.approx(exact.bits_per_dim, abs=1e-9)
    assert [group["integer_elbo"] for group in row["groups"]] == pytest.approx(exact.kl)
    assert [phase["integer_elbo"] for phase in row["phases"]] == pytest.approx(exact.pixels)
    assert row["bits"]["checksums"] == 8 * 12
    assert row["bits"]["metadata"] == 0
    assert row["bits"]["header"] >= 8 * 14
    assert heat.shape == size
    file = sum(part["file"] for part in (*row["groups"], *row["phases"]))
    assert heat.sum() <= file * 1.0001
    assert heat.sum() > 0.9 * file or min(size) < 64
    if row["tiles"] == 1:
        assert row["bits"]["tile_edges"] == row["bits"]["latent_rounding"] == 0
    rest = row["file_bits"] - sum(row["bits"][cause] for cause in ("integer_elbo", "header", "checksums"))
    assert abs(rest) < 0.05 * row["file_bits"] + 8 * 64


def test_the_adaptation_has_a_part_and_lowers_the_bound() -> None:
    codec, pixels = ModelCodec(adaptable_model()), odd_image(128, 192)
    image = RasterImage.from_pixels(pixels)
    rows = [Evaluator(codec, samples=2, effort=effort).measure("it", image)[0] for effort in (1, 4)]
    block = codec.choose_adaptation([pixels], 4)
    assert [row["bits"]["adaptation"] for row in rows] == [0, 8 * len(block)]
    for row, effort in zip(rows, (1, 4), strict=True):
        file = compress(pixels, model=codec, method="model", effort=effort)
        assert sum(row["bits"].values()) == row["file_bits"] == 8 * len(file)
    assert rows[1]["bits"]["integer_elbo"] + rows[1]["bits"]["adaptation"] < rows[0]["bits"]["integer_elbo"]


def test_metadata_has_a_part() -> None:
    pixels = make_image(24, 24)
    chunks = (Chunk(b"tEXt", b"Title\0a wave"), IDAT_PLACE)
    plain, _ = Evaluator(ModelCodec(exported_model()), samples=1).measure("plain", RasterImage.from_pixels(pixels))
    row, _ = Evaluator(ModelCodec(exported_model()), samples=1).measure("it", RasterImage.from_pixels(pixels, chunks))
    assert sum(row["bits"].values()) == row["file_bits"]
    assert row["bits"]["metadata"] > 0
    assert row["bits"]["checksums"] == plain["bits"]["checksums"] + 32
    assert row["bits"]["header"] == plain["bits"]["header"] + 16  # head and length of the metadata block


@pytest.mark.parametrize("which", RECIPES)
def test_measuring_changes_no_byte(which: str) -> None:
    codec, pixels = ModelCodec(exported_model(which)), make_image(70, 140)
    ledger = Ledger(details=True)
    coded = codec.encode([pixels], ledger)
    assert coded == codec.encode([pixels])
    assert 1 <= 8 * len(coded.payload) / ledger.image_bits[0] < 1.002
    for batch in ledger.batches:
        assert sum(bits.size for bits in batch.value_bits()) == 3 * sum(t.height * t.width for t in batch.tiles)
        assert all((bits >= 0).all() for bits in batch.value_bits())
        for symbols, prior, back in zip(batch.symbols, batch.prior_bits(), batch.returned(), strict=True):
            assert symbols.shape == prior.shape == back.shape
            assert (prior > 0).all()
            assert batch.first == (not back.any())


def test_more_draws_and_weights_tighten_the_bound() -> None:
    draws = integer_draws(make_image(24, 24), exported_model(), samples=16)
    bits = [draw.bits for draw in draws]
    control = np.mean([sum(draw.control) for draw in draws])
    assert min(bits) <= importance_bound(draws) + control <= np.mean(bits)
    assert importance_bound(draws) <= mean_of(draws).bits
    assert importance_bound(draws[:1]) == pytest.approx(mean_of(draws[:1]).bits, abs=1e-6)


def test_gray_is_measured_as_it_is_coded() -> None:
    network, exported = exported_network("phases of two levels")
    codec, pixels = ModelCodec(exported.model), make_image(70, 140)[:, :, 1].copy()
    row, heat = Evaluator(codec, network, samples=2).measure("gray", RasterImage.from_pixels(pixels))
    assert sum(row["bits"].values()) == row["file_bits"] == 8 * len(compress(pixels, model=codec, method="model"))
    assert row["dims"] == pixels.size
    assert row["bpd_float_elbo"] == pytest.approx(row["bpd_integer_elbo"], rel=0.02)
    assert heat.shape == pixels.shape
    segment = [("gray", RasterImage.from_pixels(pixels)), ("colour", RasterImage.from_pixels(make_image(20, 20)))]
    measured, archive = measure_archive(Evaluator(codec, samples=1), [segment])
    assert sum(sum(found["bits"].values()) for found, _ in measured) == 8 * archive["bytes"]


def test_rows_sum_and_the_float_bound_needs_weights() -> None:
    network, exported = exported_network()
    rows = []
    for name, size, real in [("a", (24, 24), network), ("b", (40, 70), network), ("c", (24, 24), None)]:
        evaluator = Evaluator(ModelCodec(exported.model), real, samples=1)
        rows.append(evaluator.measure(name, RasterImage.from_pixels(make_image(*size)))[0])
    both = sum_rows(rows[:2])
    assert sum(both["bits"].values()) == both["file_bits"] == rows[0]["file_bits"] + rows[1]["file_bits"]
    assert both["bpd_file"] == both["file_bits"] / (rows[0]["dims"] + rows[1]["dims"])
    assert both["bpd_float_elbo"] == pytest.approx(both["bpd_integer_elbo"], rel=0.02)
    assert rows[2]["bpd_float_elbo"] is None
    assert sum_rows(rows)["bpd_float_elbo"] is None
    assert sum_rows(rows)["groups"][0]["integer_elbo"] == pytest.approx(
        sum(row["groups"][0]["integer_elbo"] for row in rows)
    )
