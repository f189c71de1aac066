"""nvae-codec sample and reconstruct."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvae_codec.network.nvae import Nvae
from nvae_codec.training.checkpoint import Average, save_checkpoint
from nvae_codec.training.optimizers import make_optimizer
from tests.cli.conftest import Run
from tests.models import make_network, make_recipe, save_images

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder."""
    folder, recipe = tmp_path_factory.mktemp("run"), make_recipe()
    network: Nvae = make_network(recipe)
    done = {"step": 0, "seconds": 0.0}
    save_checkpoint(
        folder, recipe, network, Average(network, 0.9), make_optimizer(recipe.training, network.parameters()), done
    )
    return folder


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_grid_of_samples(run: Run, trained: Path, tmp_path: Path) -> None:
    options = ("--count", 5, "--columns", 3, "--size", "24x16", "--temperature", 0.8, "--fixed-scales", 1, "--seed", 7)
    result = run("sample", trained, "-o", tmp_path / "a.png", *options)
    assert (result.code, result.out) == (0, b"")
    assert result.err.startswith("5 images")
    assert read(tmp_path / "a.png").shape == (16 + 2 + 16, 3 * 24 + 4, 3)
    assert run("sample", trained / "checkpoint.safetensors", "-o", tmp_path / "b.png", *options).code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    piped = run("sample", trained, "-o", "-", *options, "--seed", 8, "--readjust-bn", 1)
    assert np.asarray(Image.open(io.BytesIO(piped.out))).shape == (34, 76, 3)
    assert piped.out != (tmp_path / "a.png").read_bytes()


def test_originals_stand_above_reconstructions(run: Run, trained: Path, tmp_path: Path) -> None:
    folder, grid = save_images(tmp_path / "in", 3, 48), tmp_path / "grid.png"
    assert run("reconstruct", trained, folder, "-o", grid, "--columns", 2, "--size", 32).code == 0
    found = read(grid)
    assert found.shape == (4 * 32 + 6, 2 * 32 + 2, 3)
    assert np.array_equal(found[:32, :32], read(folder / "0.png")[8:40, 8:40])
    assert np.array_equal(found[68:100, :32], read(folder / "2.png")[8:40, 16:48])
    assert not np.array_equal(found[34:66, :32], found[:32, :32])
    assert (found[:, 34:][68:] == 255).all()
    np.savez(tmp_path / "some.npz", images=np.zeros((2, 16, 16), np.uint8))
    assert run("reconstruct", trained, tmp_path / "some.npz", "-o", grid, "-f", "--count", 1).code == 0
    assert read(grid).shape == (34, 16, 3)


def test_what_cannot_be_is_said_in_one_line(run: Run, trained: Path, tmp_path: Path) -> None:
    out, broken = tmp_path / "out.png", tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for arguments, said in (
        (("sample", "nothing", "-o", out), "nothing: no such run or model"),
        (("sample", "photo", "-o", broken), f"{broken} exists already"),
        (("sample", GOLDEN, "-o", out), "not a checkpoint of a training run"),
        (("sample", trained, "-o", out, "--size", 20), "multiples of 8; 20x20 is not"),
        (("sample", trained, "-o", out, "--fixed-scales", 3), "3 scales cannot be held fixed: the model tiny has 2"),
        (
            ("sample", trained, "-o", tmp_path / "no" / "out.png"),
            "out.png cannot be written: No such file or directory",
        ),
        (("reconstruct", trained, broken, "-o", out), "broken.png: not an image"),
    ):
        result = run(*arguments)
        assert result.code == 1
        assert said in result.error_lines[-1]
        assert not out.exists()


@pytest.mark.parametrize("command", ["sample", "reconstruct"])
def test_usage_errors_are_reported(run: Run, trained: Path, tmp_path: Path, command: str) -> None:
    inputs = [trained] if command == "sample" else [trained, tmp_path]
    for option, value, said in (
        ("--size", "8x8x8", "'8x8x8' is not a size"),
        ("--temperature", "nan", "'nan' is not a finite number"),
        ("--temperature", "inf", "'inf' is not a finite number"),
        ("--temperature", "-1", "-1.0 is not in the range x>=0"),
    ):
        result = run(command, *inputs, "-o", tmp_path / "out.png", option, value)
        assert result.code == 2
        assert said in result.error_lines[-1]
        assert not (tmp_path / "out.png").exists()
