"""Runs: the loss falls, a resumed run is the run that was never stopped, and what stops one says why."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nvae_codec.errors import NvaeCodecError
from nvae_codec.recipes.files import parse_recipe, read_recipe
from nvae_codec.recipes.recipe import TrainingRecipe
from nvae_codec.training.checkpoint import FILE, read_checkpoint
from nvae_codec.training.data import Crops, Prefetcher, StepCrops, held_out_crops
from nvae_codec.training.loop import Options, Trainer, stop_signals, train
from nvae_codec.training.measure import measure
from nvae_codec.training.sources import open_source
from tests.models import RECIPES, change, make_recipe, save_images
from tests.training.runs import act_at_step, check_resumed, check_same, everything


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Crops:
    return Crops(open_source(save_images(tmp_path_factory.mktemp("images"))), TrainingRecipe(crop=16))


def held_out(folder: Crops) -> Any:
    return held_out_crops(folder.loaders, 32, 8)


def test_the_loss_falls_and_is_logged(folder: Crops, tmp_path: Path) -> None:
    trainer = Trainer(make_recipe(), tmp_path, Options(report_seconds=0), resume=False)
    before = measure(trainer.network, held_out(folder))
    lines: list[dict[str, Any]] = []
    train(trainer, folder, held_out(folder), lines.append)
    assert lines[-1]["step"] == trainer.step == 40
    assert lines[-1]["valid"]["bits_per_dim"] < before["bits_per_dim"] - 0.5
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert logged == lines
    for line in lines:
        assert len(line["valid"]["kl"]) == len(line["valid"]["active"]) == len(line["train_kl"]) == 2
        assert all(0 <= share <= 1 for share in line["valid"]["active"])
        total = sum(line["valid"]["pixels"]) + sum(line["valid"]["kl"])
        assert line["valid"]["bits_per_dim"] == pytest.approx(total, abs=1e-3)
    assert read_recipe(tmp_path / "recipe.toml") == make_recipe()
    assert read_checkpoint(tmp_path)[2]["step"] == 40


@pytest.mark.parametrize("which", ["phases of two levels", "official: batch norm, gates, swish"])
def test_a_resumed_run_is_the_one_that_was_never_stopped(folder: Crops, tmp_path: Path, which: str) -> None:
    check_resumed(make_recipe(which), folder, tmp_path)


def test_measuring_on_the_way_changes_nothing(folder: Crops, tmp_path: Path) -> None:
    quiet, watched = (Trainer(make_recipe(), tmp_path, Options(), resume=False) for _ in range(2))
    for _ in range(3):
        quiet.take_step(folder)
        watched.take_step(folder)
        assert measure(watched.network, held_out(folder)) == measure(watched.network, held_out(folder))
    check_same(quiet, watched)


def test_resuming_takes_another_training_but_no_other_network(folder: Crops, tmp_path: Path) -> None:
    trainer = Trainer(make_recipe(), tmp_path, Options(), resume=False)
    trainer.take_step(folder)
    trainer.save()
    text = RECIPES["phases of two levels"]
    longer = Trainer(parse_recipe(change(text, "training.steps = 99")), tmp_path, Options(), resume=True)
    assert longer.step == 1
    with pytest.raises(NvaeCodecError, match="another network"):
        Trainer(parse_recipe(change(text, "network.width = 12")), tmp_path, Options(), resume=True)
    with pytest.raises(NvaeCodecError, match="give a run of nvae-codec train"):
        Trainer(make_recipe(), tmp_path / "elsewhere", Options(), resume=True)


@pytest.mark.parametrize("which", ["phases of two levels", "official, two pairs of flows"])
def test_accumulated_gradients_are_those_of_the_whole_batch(folder: Crops, tmp_path: Path, which: str) -> None:
    """KL balancing included, which weighs groups by the KL of the whole batch; without batch norm, which sees parts."""
    changes = [f"network.{side}_cell.normalization = 'none'" for side in ("encoder", "decoder")]
    recipe = make_recipe(which, "training.batch = 4", "training.spectral_weight = 0.01", *changes)
    whole, parts = (Trainer(recipe, tmp_path, Options(micro_batch=size), resume=False) for size in (None, 1))
    assert (whole.passes, parts.passes) == (1, 4)
    for _ in range(3):
        one, other = whole.take_step(folder), parts.take_step(folder)
        torch.testing.assert_close(one.loss, other.loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.kl, other.kl, rtol=1e-4, atol=1e-6)
        for (name, a), b in zip(whole.network.named_parameters(), parts.network.parameters(), strict=True):
            if a.grad is not None:
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5, msg=name)
    with pytest.raises(NvaeCodecError, match="not a multiple of --micro-batch 3"):
        Trainer(recipe, tmp_path, Options(micro_batch=3), resume=False)


def test_statistics_of_batch_norm_count_each_part_once(folder: Crops, tmp_path: Path) -> None:
    recipe = make_recipe("official: batch norm, gates, swish")
    trainer = Trainer(recipe, tmp_path, Options(micro_batch=1), resume=False)
    trainer.take_step(folder)
    tracked = [int(value) for name, value in trainer.network.state_dict().items() if "num_batches" in name]
    assert set(tracked) == {2}


def test_crops_are_drawn_ahead_in_a_thread() -> None:
    threads: dict[int, str] = {}
    drawn = [threading.Event() for _ in range(4)]

    def draw(step: int) -> StepCrops:
        threads[step] = threading.current_thread().name
        drawn[step].set()
        if step == 3:
            raise NvaeCodecError("a damaged image")
        return StepCrops(np.full((1, 3, 8, 8), step, np.uint8), 0, step)

    feed = Prefetcher(draw, 4)
    assert feed.take(0).seed == 0
    assert drawn[1].wait(60)  # without being asked for
    assert feed.take(2).seed == 2  # a run may go on elsewhere
    assert all(name.startswith("crops") for name in threads.values())
    with pytest.raises(NvaeCodecError, match="a damaged image"):
        feed.take(3)


def test_a_request_to_end_saves_first(folder: Crops, tmp_path: Path) -> None:
    trainer = Trainer(make_recipe("phases of two levels", "training.steps = 100000"), tmp_path, Options(), resume=False)
    handler = signal.getsignal(signal.SIGTERM)
    act_at_step(trainer, 3, lambda: signal.raise_signal(signal.SIGTERM))
    lines: list[dict[str, Any]] = []
    assert train(trainer, folder, held_out(folder), lines.append) == signal.SIGTERM
    assert read_checkpoint(tmp_path)[2]["step"] == trainer.step == 4
    assert len(lines) == 1
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_second_signal_acts_as_ever() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with stop_signals() as asked:
            signal.raise_signal(signal.SIGINT)
            assert asked == [signal.SIGINT]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_fp16_skips_until_its_scale_fits_and_resumes_with_it(folder: Crops, tmp_path: Path) -> None:
    def prepare(trainer: Trainer) -> None:
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22)

    options = Options(precision="fp16")
    straight, resumed = check_resumed(make_recipe(), folder, tmp_path, options, steps=(3, 6), prepare=prepare)
    assert 0 < straight.skipped < 9
    assert straight.skipped_in_a_row == 0
    assert straight.scaler.get_scale() == 2.0 ** (22 - straight.skipped)
    assert resumed.skipped == straight.skipped
    assert resumed.scaler.state_dict() == straight.scaler.state_dict()
    assert all(torch.isfinite(value).all() for value in everything(resumed).values())


def test_checkpoints_come_between_reports(folder: Crops, tmp_path: Path) -> None:
    recipe = make_recipe("phases of two levels", "training.steps = 100000")
    trainer = Trainer(recipe, tmp_path, Options(report_seconds=1e9, save_seconds=0), resume=False)
    act_at_step(trainer, 3, dict[str, None]().popitem)
    with pytest.raises(KeyError):
        train(trainer, folder, held_out(folder), lambda line: None)
    assert read_checkpoint(tmp_path)[2]["step"] == 3


def test_a_time_budget_ends_a_run_that_can_be_resumed(folder: Crops, tmp_path: Path) -> None:
    recipe = make_recipe("phases of two levels", "training.steps = 100000")
    trainer = Trainer(recipe, tmp_path, Options(minutes=1e-9), resume=False)
    train(trainer, folder, held_out(folder), lambda line: None)
    assert trainer.step == 1
    assert Trainer(recipe, tmp_path, Options(), resume=True).step == 1


@pytest.mark.parametrize("which", ["phases of two levels", "official: batch norm, gates, swish"])
def test_a_step_without_a_finite_gradient_leaves_no_trace(folder: Crops, tmp_path: Path, which: str) -> None:
    trainer = Trainer(make_recipe(which), tmp_path, Options(), resume=False)
    trainer.take_step(folder)
    stem, before = trainer.network.hierarchy.encoder.stem, everything(trainer)
    hook = stem.register_forward_hook(lambda module, inputs, output: output * torch.nan)
    trainer.take_step(folder)
    hook.remove()
    assert trainer.skipped == 1
    assert trainer.step == 2
    after = everything(trainer)
    parameters = {name for name, _ in trainer.network.named_parameters()}
    for name, value in after.items():
        assert torch.isfinite(value).all(), name
        if name.removeprefix("network.") in parameters or name.startswith("optimizer."):
            assert torch.equal(value, before[name]), name
    trainer.take_step(folder)
    assert (trainer.skipped, trainer.skipped_in_a_row) == (1, 0)


def test_persistent_failure_ends_the_run_with_one_error(folder: Crops, tmp_path: Path) -> None:
    recipe = make_recipe("phases of two levels", "training.steps = 1000")
    trainer = Trainer(recipe, tmp_path, Options(report_seconds=0), resume=False)
    trainer.take_step(folder)
    trainer.save()
    trainer.network.hierarchy.encoder.stem.register_forward_hook(lambda module, inputs, output: output * torch.inf)
    with pytest.raises(NvaeCodecError, match=r"100 steps in a row .* lower training\.learning_rate"):
        train(trainer, folder, held_out(folder), lambda line: None)
    assert read_checkpoint(tmp_path)[2]["step"] == 1
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == 99
    assert not any("NaN" in line for line in lines)


def test_the_checkpoint_of_a_run_is_one_file(folder: Crops, tmp_path: Path) -> None:
    trainer = Trainer(make_recipe("phases of two levels", "training.steps = 1"), tmp_path, Options(), resume=False)
    train(trainer, folder, np.ascontiguousarray(held_out(folder)[:1]), lambda line: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, "log.jsonl", "recipe.toml"]
