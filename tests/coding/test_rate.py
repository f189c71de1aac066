"""The size of a file matches the integer-model ELBO."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation import integer_elbo
from nvae_codec.integer.model_file import read_model
from tests.golden_files import GOLDEN, check_golden
from tests.models import exported_model, make_image, round_trip

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("which", ["phases of two levels", "official: batch norm, gates, swish"])
def test_the_size_of_a_file_matches_the_bound(which: str) -> None:
    image = make_image(256, 256)
    coded = ModelCodec(exported_model(which)).encode([image])
    bound = integer_elbo(image, exported_model(which), samples=2).bits
    ratio = (8 * len(coded.payload) + 8 * len(coded.plan)) / bound
    # below one where the wide grid of a first tile, or the edges of small ones, suit the random weights better
    assert 0.97 < ratio < 1.03


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (64, 64)])
def test_a_small_image_pays_little_for_its_start(size: tuple[int, int]) -> None:
    image = make_image(*size)
    coded = ModelCodec(exported_model()).encode([image])
    bound = integer_elbo(image, exported_model(), samples=16).bits
    assert 8 * len(coded.payload) < 1.03 * bound + 8 * 24


def golden_image() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Integers alone: the same on every machine."""
    y, x = np.mgrid[0:150, 0:170].astype(np.int64)
    noise = (x * 7919 + y * 104729 + x * y * 31) % 23
    return np.stack([(x + y + noise) % 256, (2 * x + noise) % 256, (3 * y + noise // 2) % 256], 2).astype(np.uint8)


def hash_payload() -> str:
    """Of the plan and the payload that the golden model makes of the golden image."""
    coded = round_trip(ModelCodec(read_model(GOLDEN / "tiny.safetensors")), golden_image())
    return hashlib.sha256(json.dumps(list(coded.plan)).encode() + coded.payload).hexdigest()


@pytest.mark.parametrize("environment", [{}, {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}])
def test_the_bytes_of_a_file_are_the_same_on_every_machine(environment: dict[str, str]) -> None:
    code = "from tests.coding.test_rate import hash_payload; print(hash_payload())"
    numpy_features = {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"} if environment else {}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment, **numpy_features},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    check_golden("payload.json", (json.dumps({"plan and payload": result.stdout.strip()}, indent=1) + "\n").encode())
