"""Images through an integer model and back; damaged payloads and plans are refused."""

import pickle
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nvae_codec.coding import codec as codec_module
from nvae_codec.coding.ans import Stack
from nvae_codec.coding.batch import Batch
from nvae_codec.coding.bitsback import encode_batch
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.coded import Coded
from nvae_codec.errors import DamagedFileError, NumericsError, NvaeCodecError
from nvae_codec.progress import listen_to_progress
from nvae_codec.runtime import Runtime
from nvae_codec.schedule.plan import CHECKED, read_plan, tile_pixels
from nvae_codec.schedule.record import BatchRecord
from nvae_codec.schedule.shape import Shape
from nvae_codec.schedule.tiles import DENSE, GROWTHS
from nvae_codec.zoo.library import find_model
from nvae_codec.zoo.load import load_codec, prepare_codec
from tests.models import exported_model, make_image, round_trip

Pixels = NDArray[np.uint8]
SIZES = [(1, 1), (1, 7), (5, 3), (16, 16), (65, 33), (100, 200)]


@cache
def codec(which: str = "phases of two levels") -> ModelCodec:
    return ModelCodec(exported_model(which))


def make(kind: str, height: int, width: int) -> Pixels:
    rng = np.random.default_rng(height * width)
    match kind:
        case "waves":
            return make_image(height, width)
        case "constant":
            return np.full((height, width, 3), (255, 0, 77), np.uint8)
        case "noise":
            return rng.integers(0, 256, (height, width, 3), np.uint8)
        case "gradient":
            y, x = np.mgrid[0:height, 0:width]
            return np.stack([x % 256, y % 256, (x + y) % 256], 2).astype(np.uint8)
        case _:
            return rng.choice(np.array([0, 255], np.uint8), (height, width, 3))


@pytest.mark.parametrize("kind", ["waves", "constant", "noise", "gradient", "extreme"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("which", ["phases of two levels", "official: batch norm, gates, swish"])
def test_images_come_back(which: str, size: tuple[int, int], kind: str) -> None:
    coded = round_trip(codec(which), make(kind, *size))
    assert all(isinstance(number, int) and number >= 0 for number in coded.plan)


def test_plans_with_insufficient_bits_for_latents_are_not_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    coded_sizes = []

    def watch(stack: Stack, batch: Batch, stack_size: int | None) -> BatchRecord:
        coded_sizes.append(batch.canvas.size)
        return encode_batch(stack, batch, stack_size)

    monkeypatch.setattr(codec_module, "encode_batch", watch)
    # its latents take as many bits from the stack as the pixels bring
    hierarchy = load_codec(find_model("natural32").path, Runtime("cpu"))
    image = make_image(64, 192)
    assert GROWTHS[round_trip(hierarchy, image).plan[0] // 4] in DENSE
    assert sum(height * width for height, width in coded_sizes) < 64 * 192 * 3 // 2, "most of it once"


def test_views_of_images_are_taken_as_they_are() -> None:
    round_trip(codec(), make_image(40, 60)[::-1, ::2])


@pytest.fixture
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("which", ["phases of two levels", "official: batch norm, gates, swish"])
def test_neither_threads_nor_tiles_at_once_change_a_byte(which: str) -> None:
    image = make_image(100, 112)
    torch.set_num_threads(1)
    expected = codec(which).encode([image])
    assert len(expected.plan) > 4, "several batches"
    for batch_tiles in (1, 2):
        assert round_trip(prepare_codec(exported_model(which), Runtime("cpu", 1, batch_tiles)), image) == expected
    image = make_image(64, 40)
    expected = codec(which).encode([image])
    assert round_trip(prepare_codec(exported_model(which), Runtime("cpu", 2)), image) == expected
    assert torch.get_num_threads() == 1, "the user's own number comes back"


def test_bits_below_the_first_batch_are_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_image(20, 20)

    class NotEmpty(Stack):
        def __init__(self, payload: bytes = b"", **options: Any) -> None:
            super().__init__(payload or bytes(range(1, 100)), **options)

    with monkeypatch.context() as patch:
        patch.setattr(codec_module, "Stack", NotEmpty)
        coded = codec().encode([image])
    with pytest.raises(DamagedFileError, match="left on the stack"):
        codec().decode([Shape(20, 20)], coded)


def test_another_machine_proves_for_itself() -> None:
    proved = prepare_codec(exported_model(), Runtime("cpu"))
    assert proved._proved
    assert not pickle.loads(pickle.dumps(proved))._proved


@pytest.mark.usefixtures("_threads")
def test_no_number_of_threads_codes_that_has_not_passed_the_canary() -> None:
    torch.set_num_threads(1)
    model, image = exported_model(), make_image(20, 20)
    proved = prepare_codec(model, Runtime("cpu"))
    coded = proved.encode([image])
    broken = ModelCodec(replace(model, canary="of another machine"))
    broken._proved = proved._proved
    assert broken.encode([image]) == coded
    torch.set_num_threads(2)
    for code in (lambda: broken.encode([image]), lambda: broken.decode([Shape(20, 20)], coded)):
        with pytest.raises(NumericsError, match="does not compute the model's integers"):
            code()
    assert proved.encode([image]) == coded


def test_a_missing_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert prepare_codec(exported_model(), Runtime("auto")).device.type == "cpu"
    with pytest.raises(NvaeCodecError, match="there is no CUDA device"):
        prepare_codec(exported_model(), Runtime("cuda"))


def is_refused(coded: Coded, height: int, width: int, **changes: Any) -> bool:
    """Whether decoding raises DamagedFileError; no other error may come, nor pixels of another shape."""
    try:
        pixels = codec().decode([Shape(height, width)], replace(coded, **changes))[0]
    except DamagedFileError as error:
        said = str(error)
    else:
        assert pixels.shape == (height, width, 3)
        return False
    assert said.startswith("damaged: ")
    assert "\n" not in said
    return True


def test_damaged_payloads_are_refused() -> None:
    image, rng = make_image(50, 40), random.Random(0)
    coded = codec().encode([image])
    payload = coded.payload
    damaged = [payload[:size] for size in (0, 1, len(payload) // 2, len(payload) - 1)]
    damaged += [payload + b"\1", rng.randbytes(len(payload)), bytes([255]) * len(payload)]
    for _ in range(12):
        at = rng.randrange(len(payload))
        damaged.append(payload[:at] + bytes([payload[at] ^ 1 << rng.randrange(8)]) + payload[at + 1 :])
    assert [data for data in damaged if not is_refused(coded, 50, 40, payload=data)] == []
    # zeros beyond the end are what any stack has
    longer = replace(coded, payload=payload + bytes(9))
    assert np.array_equal(codec().decode([Shape(50, 40)], longer)[0], image)


def test_damaged_plans_are_refused() -> None:
    image = make_image(150, 100)
    coded = codec().encode([image])
    refused, plan = partial(is_refused, coded, 150, 100), coded.plan
    refused(plan=(plan[0] ^ 1, *plan[1:]))  # the same tiles from another corner: other pixels
    assert refused(plan=(2 * CHECKED, *plan[1:]))
    for place in range(1, len(plan)):
        for value in (0, 1, plan[place] + 1, 255):  # some stack sizes give the same slices: those decode
            refused(plan=(*plan[:place], value, *plan[place + 1 :]))
        assert refused(plan=(*plan[:place], 2**40, *plan[place + 1 :]))


def test_wrong_stack_sizes_are_refused_after_their_batch() -> None:
    image, shapes = make_image(150, 100), [Shape(150, 100)]
    coded = codec().encode([image])
    *plan, middle, last = coded.plan
    batches = read_plan(shapes, coded.plan)
    assert len(batches) > 1
    done: list[int] = []
    with (
        listen_to_progress(lambda pixels, _: done.append(pixels)),
        pytest.raises(DamagedFileError, match="do not leave what they found"),
    ):
        codec().decode(shapes, replace(coded, plan=(*plan, middle - 20, last)))
    assert done[-1] == tile_pixels(batches[-1][0])


@pytest.mark.parametrize(
    "plan",
    [
        [], [0], [0, 1], [0, 1, 0, 0, 1], [64, 1, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0], [0, 1, 256, 0],
        [16, 1, 0, 0], [16, 1, 0, 0, 256], [0, 1, 0, 0, 0],
        [0, 1, 0, 256], [0, 1, 0, 0, 1, 0, 0], [0, 2**60, 0, 0], [-1, 1, 0, 0], [0, -1, 0, 0], [0, 1, -1, 0],
    ],
)  # fmt: skip
def test_impossible_plans_are_refused(plan: list[int]) -> None:
    with pytest.raises(DamagedFileError, match=r"^damaged: "):
        read_plan([Shape(16, 16)], plan)


def test_a_plan_of_another_size_is_refused() -> None:
    coded = codec().encode([make_image(150, 100)])
    assert all(is_refused(coded, *size) for size in [(64, 64), (400, 400), (100, 150), (150, 101)])


def test_a_model_of_another_kind_does_not_decode_it() -> None:
    coded = codec().encode([make_image(50, 40)])
    with pytest.raises(DamagedFileError):
        codec("official: batch norm, gates, swish").decode([Shape(50, 40)], coded)


def test_a_gpu_of_little_memory_sees_fewer_tiles_together(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = make_image(70, 130)
    expected = ModelCodec(exported_model()).encode([pixels])
    most = 4
    take = Batch._take

    def limited(self: Batch, *arguments: Any) -> Any:
        if self.chunks[0].stop - self.chunks[0].start > most or not most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return take(self, *arguments)

    monkeypatch.setattr(Batch, "_take", limited)
    codec = ModelCodec(exported_model(), Runtime(batch_tiles=32))
    assert round_trip(codec, pixels) == expected
    most = 0
    with pytest.raises(NvaeCodecError, match="too little memory for this image"):
        codec.encode([pixels])
