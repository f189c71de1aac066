"""Histories leave the traces that they stand for, lie where they should, and train the expert of their kind."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nvae_codec.errors import RecipeError
from nvae_codec.network.nvae import Nvae
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.recipes.histories import KINDS, HistoriesRecipe
from nvae_codec.training.checkpoint import copy_weights, load_average
from nvae_codec.training.data import Crops
from nvae_codec.training.histories import (
    TO_YCBCR,
    add_noise,
    apply_history,
    change_tone,
    halve_chroma,
    sharpen,
    through_jpeg,
    with_histories,
)  # fmt: skip
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.measure import measure_histories
from nvae_codec.training.sources import open_source
from tests.models import RECIPES, change, make_image, random_crops, save_images

CLEAN, JPEG_420, JPEG_444, CHROMA, RESIZED = range(len(KINDS))
EVERY = HistoriesRecipe(clean=0.2, jpeg_420=0.2, jpeg_444=0.2, chroma=0.2, resized=0.2, tone=0.5, noise=0.5)
TWO_EXPERTS = (
    RECIPES["phases, two experts"] + "\n[training.histories]\njpeg_420 = 1\nclean = 0\nexperts = [0, 1, 0, 0, 0]\n"
)


def make_history(kind: int, recipe: HistoriesRecipe, seed: int, side: int = 48) -> NDArray[np.uint8]:
    return apply_history(make_image(side + 64, side + 64, seed), kind, side, recipe, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_kind_gives_a_crop_that_the_seed_decides(kind: int) -> None:
    one, same, other = (make_history(kind, EVERY, seed) for seed in (1, 1, 2))
    assert one.shape == (48, 48, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    small = make_image(48, 50)
    assert apply_history(small, kind, 48, EVERY, np.random.default_rng(0)).shape == (48, 48, 3)


def test_a_clean_history_is_a_crop_of_the_region() -> None:
    region = make_image(112, 112)
    crop = apply_history(region, CLEAN, 48, HistoriesRecipe(), np.random.default_rng(0))
    windows = np.lib.stride_tricks.sliding_window_view(region, (48, 48, 3))
    assert (windows == crop).all((2, 3, 4, 5)).any()


@pytest.mark.parametrize("kind", [JPEG_420, JPEG_444])
def test_blocks_begin_at_the_corner_of_aligned_crops_alone(kind: int) -> None:
    def changes(aligned: float, seed: int) -> float:
        """What encoding once more changes: little where the blocks are the same."""
        recipe = HistoriesRecipe(aligned=aligned, quality=[75, 75])
        crop = make_history(kind, recipe, seed)
        again = through_jpeg(crop, 75, 2 if kind == JPEG_420 else 0)
        return float(np.abs(crop.astype(int) - again).mean())

    aligned = [changes(1.0, seed) for seed in range(10)]
    anywhere = [changes(0.0, seed) for seed in range(10)]
    assert max(aligned) < np.mean(anywhere) / 1.5
    assert min(anywhere) < max(anywhere)


def test_halved_chroma_is_smooth_and_luma_stays() -> None:
    image = np.random.default_rng(0).integers(60, 200, (64, 64, 3)).astype(np.uint8)
    before, after = (x.astype(np.float32) @ TO_YCBCR.T for x in (image, halve_chroma(image, np.random.default_rng(1))))
    inner = slice(8, -8)
    assert np.abs(before - after)[inner, inner, 0].max() < 2
    for index in (1, 2):
        assert np.diff(after[..., index]).std() < np.diff(before[..., index]).std() / 1.4


def test_tone_noise_and_sharpening_do_what_they_say() -> None:
    image = make_image(64, 64, noise=1)
    toned = change_tone(image.astype(np.float32), np.random.default_rng(0))
    assert np.corrcoef(toned[..., 1].ravel(), image[..., 1].ravel())[0, 1] > 0.99
    assert np.abs(toned - image).mean() > 2
    flat = np.full((64, 64, 3), 128, np.float32)
    noise = add_noise(flat, np.random.default_rng(0)) - flat
    assert 0.2 < noise.std() < 6
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] > 0.05
    assert (
        np.diff(sharpen(image, np.random.default_rng(0)).astype(int), axis=1).std()
        > np.diff(image.astype(int), axis=1).std()
    )


def test_held_out_histories_are_always_the_same_and_of_the_kinds_that_are_trained_on() -> None:
    crops = random_crops(2, 128).numpy()
    recipe = HistoriesRecipe(clean=0.5, chroma=0.25, resized=0.25, experts=[0, 0, 0, 1, 2])
    one, same = (with_histories(crops, recipe, 32) for _ in range(2))
    assert {name: expert for name, (expert, _) in one.items()} == {"chroma": 1, "resized": 2}
    for name, (_, changed) in one.items():
        assert changed.shape == (2, 3, 64, 64)
        assert np.array_equal(changed, same[name][1])
    assert with_histories(crops[..., :64, :64], recipe, 32) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.histories.clean = 0.5"], "sum 1.5"),
        (["training.histories.experts = [0, 2, 0, 0, 0]"], r"needs likelihood\.experts = 3"),
        (["training.histories.quality = [90, 80]"], "quality"),
        (["likelihood.scales = 0"], r"likelihood\.experts = 2 needs likelihood\.scales"),
    ],
)
def test_impossible_histories_and_experts_are_refused(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(change(TWO_EXPERTS, *changes))


def test_a_step_trains_the_expert_of_its_kind_and_what_experts_share(tmp_path: Path) -> None:
    folder = Crops(open_source(save_images(tmp_path / "pictures", side=80)), parse_recipe(TWO_EXPERTS).training)
    trainer = Trainer(parse_recipe(TWO_EXPERTS), tmp_path, Options(), resume=False)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    for _ in range(6):  # the first four see the base alone
        trainer.take_step(folder)
    after = trainer.network.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("likelihood.heads.") for name in changed)
    assert any(name.startswith("likelihood.experts.0.") for name in changed)
    assert any(name.startswith("hierarchy.") for name in changed)
    trainer.save()
    resumed = Trainer(parse_recipe(TWO_EXPERTS), tmp_path, Options(), resume=True)
    for each in (trainer, resumed):
        each.take_step(folder)
    state = resumed.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in trainer.network.state_dict().items())
    assert measure_histories(resumed.network, random_crops(2, 80).numpy()).keys() == {"jpeg_420"}


def test_experts_start_from_the_heads_of_a_model_without_them(tmp_path: Path) -> None:
    one = Trainer(
        parse_recipe(change(RECIPES["phases, two experts"], "likelihood.experts = 1")),
        tmp_path,
        Options(),
        resume=False,
    )
    one.save()
    other = Nvae(parse_recipe(TWO_EXPERTS)).eval()
    copy_weights(other, tmp_path)
    pixels, network = random_crops(1, 32), load_average(tmp_path)[1]
    torch.manual_seed(0)
    expected = network(pixels).pixels
    for expert in (0, 1):
        torch.manual_seed(0)
        assert torch.equal(torch.stack(expected), torch.stack(other(pixels, expert=expert).pixels))


def test_processes_share_the_crops_of_one(tmp_path: Path) -> None:
    recipe = parse_recipe(TWO_EXPERTS).training
    folder = Crops(open_source(save_images(tmp_path, side=80)), recipe)
    whole = folder.draw(4, np.random.default_rng(0), history=JPEG_420)
    half = folder.draw(4, np.random.default_rng(0), slice(2, 4), JPEG_420)
    assert np.array_equal(whole[2:], half)
