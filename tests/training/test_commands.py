"""The commands train and freeze, on a run of a few steps."""

import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from nvae_codec.errors import NvaeCodecError
from nvae_codec.integer.model_file import read_model
from nvae_codec.recipes.files import parse_recipe
from nvae_codec.runtime import Runtime
from nvae_codec.training.checkpoint import FILE, Average, read_checkpoint
from nvae_codec.training.data import pad_smaller
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.precision import FIRST_LOSS_SCALE
from nvae_codec.training.sources import open_source
from nvae_codec.zoo.load import load_codec
from tests.cli.conftest import largest_file
from tests.models import OFFICIAL, PHASED, change, make_image, round_trip, save_images

train_command = importlib.import_module("nvae_codec.cli.train").train_command
freeze_module = importlib.import_module("nvae_codec.cli.freeze")
freeze_command, spread = freeze_module.freeze_command, freeze_module.spread


def invoke(*arguments: object) -> Result:
    """Run train; errors of ours pass through, as the main command shows them in one line."""
    return CliRunner().invoke(train_command, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(PHASED)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def run(recipe: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps."""
    run = tmp_path_factory.mktemp("run")
    result = invoke(recipe, "--data", images, "--out", run, "--steps", 6, "--device", "cpu", "--valid-crop", 32)
    assert result.exit_code == 0
    assert "step 6" in result.stdout
    assert "bits/dim" in result.stdout
    assert "KL" in result.stdout
    assert "held out: 1 crops of 32 pixels" in result.stderr
    return run


def test_a_dry_run_prints_the_recipe_and_leaves_nothing(recipe: Path, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = invoke(recipe, "--data", images, "--out", run, "--steps", 9, "--dry-run")
    assert result.exit_code == 0
    assert parse_recipe(result.stdout).training.steps == 9
    assert "2 images" in result.stderr
    assert not run.exists()


def test_dead_latents_are_named_by_train_and_freeze(images: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(change(PHASED, "training.learning_rate = 1e-9", "training.final_learning_rate = 0.0"))
    run = tmp_path / "run"
    trainer = Trainer(parse_recipe(recipe.read_text()), run, Options(), resume=False)
    run.mkdir()
    with torch.no_grad():
        for name, parameter in trainer.network.named_parameters():
            if name.startswith("hierarchy.groups.1.posterior_head."):
                parameter.zero_()
    trainer.average = Average(trainer.network, 0.0)
    trainer.save()
    trained = invoke(
        recipe, "--data", images, "--out", run, "--resume", "--steps", 1, "--device", "cpu", "--valid-crop", 32
    )
    arguments = [run, "-o", tmp_path / "m.safetensors", "--calibrate", images, "--crop", 32]
    frozen = CliRunner().invoke(freeze_command, [str(a) for a in arguments], catch_exceptions=False)
    for result in (trained, frozen):
        assert result.exit_code == 0
        assert result.stderr.count("latents: group 1 of 2 carry no information; start again with") == 1


def test_a_run_is_not_overwritten_but_resumed(recipe: Path, images: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(NvaeCodecError, match="a run is here already; --resume goes on with it"):
        invoke(recipe, "--data", images, "--out", run, "--steps", 6)
    with pytest.raises(NvaeCodecError, match="give a run of nvae-codec train"):
        invoke(recipe, "--data", images, "--out", tmp_path / "none", "--resume")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / FILE).write_bytes((run / FILE).read_bytes())
    result = invoke(recipe, "--data", images, "--out", copy, "--steps", 8, "--resume", "--device", "cpu")
    assert result.exit_code == 0
    assert "step 6 of 8" in result.stderr
    assert read_checkpoint(copy)[2]["step"] == 8


def test_a_run_starts_with_the_weights_of_another(recipe: Path, images: Path, run: Path, tmp_path: Path) -> None:
    arguments = [recipe, "--data", images, "--out", tmp_path / "next", "--steps", 1, "--device", "cpu"]
    result = invoke(*arguments, "--valid-crop", 32, "--weights-from", run, "--weights", "likelihood.")
    assert result.exit_code == 0
    assert "weights: " in result.stderr
    for wrong in (["--weights", "likelihood."], ["--weights-from", run, "--resume"]):
        with pytest.raises(NvaeCodecError, match="--weights"):
            invoke(*arguments, *wrong)


def test_a_run_stops_after_its_minutes(recipe: Path, images: Path, tmp_path: Path) -> None:
    result = invoke(
        recipe, "--data", images, "--out", tmp_path, "--steps", 100_000, "--minutes", 1e-6, "--device", "cpu"
    )
    assert result.exit_code == 0
    assert read_checkpoint(tmp_path)[2]["step"] < 1000


def test_an_interrupted_run_says_where_it_stopped(recipe: Path, images: Path, tmp_path: Path) -> None:
    words = ["train", recipe, "--data", images, "--out", tmp_path, "--steps", 100_000, "--valid-crop", 32]
    command = [sys.executable, "-m", "nvae_codec", *map(str, words), "--report-seconds", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    step = read_checkpoint(tmp_path)[2]["step"]
    assert process.returncode == 130
    assert errors.splitlines()[-1] == f"{tmp_path}: stopped at step {step} of 100000; --resume goes on with it"


def test_a_launcher_that_starts_one_process_is_named(
    recipe: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    words = [recipe, "--data", images, "--out", tmp_path, "--steps", 1, "--valid-crop", 32]
    assert "accelerate launch started one process only" in invoke(*words).stderr
    assert "at step 1 of 1 already" in invoke(*words, "--resume").stderr
    quiet = invoke(*words, "--resume", "--steps", 2, "-q")
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_a_single_image_needs_held_out_images(recipe: Path, tmp_path: Path) -> None:
    Image.fromarray(make_image(32, 32)).save(tmp_path / "one.png")
    with pytest.raises(NvaeCodecError, match="give --valid"):
        invoke(recipe, "--data", tmp_path, "--out", tmp_path / "run", "--dry-run")
    assert invoke(recipe, "--data", tmp_path, "--valid", tmp_path, "--out", tmp_path / "run", "--dry-run").stdout


def test_images_of_a_network_of_one_size_get_zeros_around_them(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(change(OFFICIAL, "network.top_size = 4"))
    digits = np.full((21, 12, 14), 200, np.uint8)
    np.savez(tmp_path / "digits.npz", images=digits)
    words = [tmp_path / "recipe.toml", "--data", tmp_path / "digits.npz", "--out", tmp_path / "run"]
    result = invoke(*words, "--steps", 1, "--device", "cpu")
    assert "19 images" in result.stderr
    assert "held out: 2 crops of 16 pixels" in result.stderr
    padded = pad_smaller(open_source(tmp_path / "digits.npz")[0], 16)()
    assert padded.shape == (16, 16, 3)
    assert (padded[2:14, 1:15] == 200).all()
    assert padded.sum() == 3 * digits[0].sum()
    assert pad_smaller(lambda: padded, 16)() is padded


def test_options_of_memory_and_precision(recipe: Path, images: Path, tmp_path: Path) -> None:
    words = [recipe, "--data", images, "--steps", 1, "--device", "cpu", "--valid-crop", 32]
    result = invoke(*words, "--out", tmp_path / "sparing", "--fp16", "--checkpointing")
    assert "MiB" in result.stdout
    assert read_checkpoint(tmp_path / "sparing")[2]["scaler"]["scale"] == FIRST_LOSS_SCALE
    with pytest.raises(NvaeCodecError, match="--compile and --checkpointing do not go together"):
        invoke(*words, "--out", tmp_path / "both", "--compile", "--checkpointing")


def test_usage_errors_are_reported(recipe: Path, images: Path, tmp_path: Path) -> None:
    assert invoke(recipe, "--out", tmp_path).exit_code == 2
    assert invoke(recipe, "--data", images, "--out", tmp_path, "--steps", 0).exit_code == 2
    for option in ("--minutes", "--report-seconds", "--save-seconds"):
        for value in ("nan", "inf", "-1"):
            result = invoke(recipe, "--data", images, "--out", tmp_path, option, value, "--dry-run")
            assert result.exit_code == 2
            assert f"Invalid value for '{option}'" in result.stderr


def test_freezing_makes_a_model_that_codes(run: Path, images: Path, tmp_path: Path) -> None:
    path, report_file = tmp_path / "model.safetensors", tmp_path / "report.json"
    arguments = [run, "-o", path, "--calibrate", images, "--crop", 32, "--name", "six", "--report", report_file]
    result = CliRunner().invoke(freeze_command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert "model      six" in result.stdout
    report = json.loads(report_file.read_text())
    assert report["steps"] == 6
    assert report["crops"] == 3
    assert report["integer_over_float"] == pytest.approx(1, abs=0.02)
    assert read_model(path).identity.hex() == report["identity"]
    assert 0 < report["largest_sum_bits"] <= 53
    codec = load_codec(path, Runtime("cpu"))
    image = make_image(40, 30, 5)
    round_trip(codec, image)
    with pytest.raises(NvaeCodecError, match="exists already"):
        CliRunner().invoke(freeze_command, [str(a) for a in arguments], catch_exceptions=False)
    assert CliRunner().invoke(freeze_command, [str(a) for a in [*arguments, "-f"]]).exit_code == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with (
        largest_file(1000),
        pytest.raises(NvaeCodecError, match=r"model\.safetensors cannot be written: File too large"),
    ):
        CliRunner().invoke(freeze_command, [str(a) for a in [*arguments, "-f"]], catch_exceptions=False)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_model_does_not_go_to_a_folder(run: Path, images: Path, tmp_path: Path) -> None:
    arguments = [run, "-o", tmp_path, "--calibrate", images, "-f"]
    result = CliRunner().invoke(freeze_command, [str(a) for a in arguments])
    assert result.exit_code == 2
    assert f"File '{tmp_path}' is a directory" in result.stderr
    assert list(tmp_path.parent.glob("*.part")) == []


def test_images_for_freezing_are_spread_over_the_folder() -> None:
    files = [Path(f"{index:03}.png") for index in range(100)]
    assert len(spread(files, 32)) <= 32
    assert spread(files[:10], 32) == files[:10]
    assert spread(files, 1) == files[:1]
