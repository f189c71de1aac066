"""Adaptation blocks: packed and read, applied exactly, and refused by name where they are not sound."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nvae_codec
from nvae_codec.adaptation.layers import adapt_model, change_layer, integer_change, real_weight
from nvae_codec.adaptation.parameters import STEPS, Adaptation, LayerChange, step_size
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.coding.coded import ADAPTATION_BLOCK, Coded
from nvae_codec.errors import DamagedFileError, ModelFileError
from nvae_codec.integer.bounds import prove_exact
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.model import Adaptable
from nvae_codec.integer.model_file import finalize, pack_model, read_model
from nvae_codec.integer.operations import Convolve
from nvae_codec.progress import listen_to_progress
from nvae_codec.runtime import Runtime
from nvae_codec.schedule.shape import Shape
from tests.adaptation.models import adaptable_model, odd_image
from tests.models import make_image

MODEL = adaptable_model()


def random_adaptation(seed: int, largest: int = 3, step: int = 32, layers: int = 3) -> Adaptation:
    rng = np.random.Generator(np.random.PCG64(seed))
    places = sorted(rng.choice(len(MODEL.adaptable), layers, replace=False).tolist())
    return Adaptation(
        0,
        {
            place: LayerChange(step, rng.integers(-largest, largest + 1, MODEL.adaptable[place].shape, np.int32))
            for place in places
        },
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(0, 40), st.integers(0, STEPS - 1))
def test_what_is_packed_is_read_back(seed: int, largest: int, step: int) -> None:
    adaptation = random_adaptation(seed, largest, step)
    again = Adaptation.unpack(adaptation.pack(MODEL), MODEL)
    assert again.expert == adaptation.expert
    assert list(again.changes) == list(adaptation.changes)
    for place, change in adaptation.changes.items():
        assert again.changes[place].step == change.step
        assert np.array_equal(again.changes[place].coordinates, change.coordinates)


def test_a_change_is_the_rounded_product_of_coordinates_directions_gains_and_step() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    rows, columns = MODEL.adaptable[1].shape
    layer = Adaptable(
        MODEL.adaptable[1].operation,
        rng.integers(-1000, 1000, (columns, columns), np.int32),
        rng.integers(0, 1000, rows, np.int32),
        22,
    )
    for step in (0, 13, 30):
        change = LayerChange(step, rng.integers(-5, 6, layer.shape, np.int32))
        real = change.coordinates @ layer.directions.astype(float) * layer.gains[:, None]
        real *= 2.0**-layer.shift * step_size(step)
        assert np.abs(integer_change(layer, change) - real).max() <= 0.5
        changed, operation = change_layer(MODEL, layer, change), MODEL.graph.operations[layer.operation]
        assert isinstance(operation, Convolve)
        moved = real_weight(changed).astype(float) - real_weight(operation)
        multiplier = changed.multiplier.double().numpy()[:, None]
        assert np.abs(moved - real * operation.multiplier.double().numpy()[:, None]).max() <= 1.1 * multiplier.max()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([1, 30, 500]), st.sampled_from([0, 8, 20, 40]))
def test_an_adapted_graph_is_proved_exact_or_refused(seed: int, largest: int, step: int) -> None:
    try:
        adapted = adapt_model(MODEL, random_adaptation(seed, largest, step))
    except DamagedFileError:
        return
    bounds = prove_exact(adapted.graph)
    assert all(torch.equal(bound.largest, MODEL.bounds[name].largest) for name, bound in bounds.items())


def test_rows_that_would_overflow_are_halved_and_hopeless_ones_refused() -> None:
    operation = MODEL.adaptable[-1].operation
    rows, columns = MODEL.adaptable[-1].shape
    single = dataclasses.replace(MODEL.graph.operations[operation], digits=())  # type: ignore[call-arg]
    others = [each for name, each in MODEL.graph.operations.items() if name != operation]
    model = dataclasses.replace(MODEL, graph=Graph([*others, single], MODEL.graph.outputs))
    model.__dict__["bounds"] = MODEL.bounds
    layer = Adaptable(operation, np.eye(columns, dtype=np.int32) << 20, np.full(rows, 1 << 9, np.int32), 10)
    coordinates = np.full(layer.shape, 2047, np.int32)
    kinds = set()
    for step in range(STEPS):
        try:
            changed = change_layer(model, layer, LayerChange(step, coordinates))
        except DamagedFileError:
            kinds.add("refused")
            continue
        original = MODEL.graph.operations[layer.operation]
        assert isinstance(original, Convolve)
        kinds.add("halved" if not torch.equal(changed.multiplier, original.multiplier) else "whole")
    assert kinds == {"halved", "refused"}


HOSTILE = {
    b"\0": "is empty",
    b"\1": "no expert 1",
    b"\xff": "no expert 255",
    b"\0\0": "layers that its model does not have",
    b"\0\x80": "layers that its model does not have",
    b"\0\x03\1": "layers that its model does not have",
    b"\0\1\x40\1\2\3": "a step out of range",
    b"\0\1\x10\1\0": "too long",
}


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_blocks_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(DamagedFileError, match=HOSTILE[data]):
        ModelCodec(MODEL).decode([Shape(8, 8)], Coded(b"", (16, 1, 0, 0), ((ADAPTATION_BLOCK, data),)))


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=60))
def test_no_bytes_are_an_internal_error(data: bytes) -> None:
    with contextlib.suppress(DamagedFileError):
        adapt_model(MODEL, Adaptation.unpack(b"\0" + data, MODEL))


def test_an_adapted_image_is_smaller_and_comes_back() -> None:
    codec, image = ModelCodec(MODEL), odd_image(256, 384)
    plain, adapted = codec.encode([image]), codec.encode([image], effort=5)
    assert dict(adapted.extensions).keys() == {ADAPTATION_BLOCK}
    size = len(adapted.payload) + len(adapted.extensions[0][1])
    assert size < 0.97 * len(plain.payload)
    assert np.array_equal(codec.decode([Shape.of(image)], adapted)[0], image)
    assert codec.encode([image]) == plain, "the codec itself is as it was"
    quick = codec.encode([image], effort=2)
    assert size < len(quick.payload) + len(quick.extensions[0][1]) < len(plain.payload)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (32, 32)])
@pytest.mark.parametrize("effort", [2, 9])
def test_small_images_never_grow(size: tuple[int, int], effort: int) -> None:
    codec = ModelCodec(MODEL)
    rng = np.random.Generator(np.random.PCG64(1))
    noise = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    for image in (make_image(*size), np.full((*size, 3), 77, np.uint8), noise):
        plain, adapted = codec.encode([image]), codec.encode([image], effort=effort)
        assert len(adapted.payload) + sum(len(data) for _, data in adapted.extensions) <= len(plain.payload) + 1
        assert np.array_equal(codec.decode([Shape.of(image)], adapted)[0], image)


def test_more_effort_never_loses_what_little_effort_gains() -> None:
    model = nvae_codec.load_model("photo", device="cpu")
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (96, 96, 3), np.uint8)
    none, little, much = (
        len(nvae_codec.compress(noise, model=model, method="model", effort=effort)) for effort in (1, 2, 5)
    )
    assert little < none
    assert much <= little


def test_several_images_share_a_block_and_gray_ones_have_their_own_sample() -> None:
    codec = ModelCodec(MODEL)
    images = [odd_image(96, 128), odd_image(64, 200), odd_image(96, 128)[:, :, 1]]
    coded = codec.encode(images, effort=4)
    assert coded.extensions
    restored = codec.decode([Shape.of(image) for image in images], coded)
    assert all(np.array_equal(restored[index], image) for index, image in enumerate(images))
    gray = codec.encode([images[2]], effort=4)
    assert np.array_equal(codec.decode([Shape.of(images[2])], gray)[0], images[2])


def test_an_expert_is_chosen_and_costs_a_byte() -> None:
    model = adaptable_model("phases, two experts")
    outputs = [layer for layer in model.adaptable if layer.operation.endswith("_out")]
    assert len(outputs) == 1 + 3 * 2
    assert model.adaptable[: len(outputs)] == tuple(outputs), "those that most files change have the shortest masks"
    assert Adaptation(1).pack(model) == b"\1"
    assert adapt_model(model, Adaptation.unpack(b"\1", model)).expert == 1
    codec, image = ModelCodec(model), odd_image(64, 64)
    for effort in (2, 5):
        coded = codec.encode([image], effort=effort)
        assert np.array_equal(codec.decode([Shape.of(image)], coded)[0], image)
    forced = codec.encode_adapted([image], b"\1")
    assert forced.payload != codec.encode([image]).payload
    assert np.array_equal(codec.decode([Shape.of(image)], forced)[0], image)


def test_an_adapted_file_is_decoded_alike_with_other_threads_and_libraries() -> None:
    image = odd_image(256, 256)
    coded = ModelCodec(MODEL, Runtime(threads=1)).encode([image], effort=4)
    assert coded.extensions
    for threads in (1, 2):
        with torch.backends.mkldnn.flags(enabled=threads == 1):
            decoded = ModelCodec(MODEL, Runtime(threads=threads)).decode([Shape.of(image)], coded)
        assert np.array_equal(decoded[0], image)


def test_efforts_are_from_one_to_nine() -> None:
    for effort in (0, 10):
        with pytest.raises(ValueError, match="effort must be from 1 to 9"):
            ModelCodec(MODEL).encode([make_image(8, 8)], effort=effort)


def test_directions_are_in_model_files_and_checked(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "m.safetensors"
    path.write_bytes(pack_model(MODEL, "", {}))
    again = read_model(path)
    assert again.identity == MODEL.identity
    for one, other in zip(MODEL.adaptable, again.adaptable, strict=True):
        assert (one.operation, one.shift) == (other.operation, other.shift)
        assert np.array_equal(one.directions, other.directions)
        assert np.array_equal(one.gains, other.gains)
    first = MODEL.adaptable[0]
    wrong = [
        dataclasses.replace(first, operation="image"),
        dataclasses.replace(first, operation="none"),
        dataclasses.replace(first, shift=-1),
        dataclasses.replace(first, gains=first.gains[:-1].copy()),
        dataclasses.replace(first, directions=first.directions[:, :-1].copy()),
        dataclasses.replace(first, gains=first.gains * 2**16),
    ]
    for layer in wrong:
        path.write_bytes(pack_model(finalize(dataclasses.replace(MODEL, adaptable=(layer,))), "", {}))
        with pytest.raises(ModelFileError, match="its description cannot be"):
            read_model(path)


def test_an_adapted_codec_needs_no_canary_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    codec, image = ModelCodec(MODEL), make_image(24, 24, 1)
    monkeypatch.setattr("nvae_codec.coding.codec.check_canary", lambda *_: runs.append(1))
    for _ in range(2):
        codec.encode_adapted([image], random_adaptation(1, step=48).pack(MODEL))
    assert len(runs) == 1


def test_progress_moves_while_the_model_is_adapted() -> None:
    moves: list[tuple[int, int]] = []
    with listen_to_progress(lambda done, total: moves.append((done, total))):
        ModelCodec(MODEL).choose_adaptation([make_image(80, 80, 1)], 3)
        assert not moves, "no pass has begun"
        ModelCodec(MODEL).encode([make_image(80, 80, 1)], effort=3)
    done = [each for each, _ in moves]
    assert {total for _, total in moves} == {6400}
    assert done == sorted(done)
    assert len(done) > 24 + 14, "a move for each step and each phase"
    assert done[-1] >= 6300
