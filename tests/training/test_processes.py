"""Several processes are one: the same steps from the parts of each batch, and only the first writes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nvae_codec.errors import NvaeCodecError
from nvae_codec.network.noise import Noise
from nvae_codec.training.checkpoint import read_checkpoint
from nvae_codec.training.processes import BUCKET, VARIABLES, Processes, fill_buckets
from tests.models import make_recipe, save_images
from tests.training.two_processes import RECIPES, open_images, take_steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and what two processes made of them."""
    folder = tmp_path_factory.mktemp("processes")
    save_images(folder / "images")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*launch, "-m", "tests.training.two_processes", str(folder)],
        env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(folder: Path, name: str, tmp_path: Path) -> None:
    alone = take_steps(folder, name, tmp_path / "alone")
    (_, one, done), (_, other, _), (_, single, _) = (
        read_checkpoint(run) for run in (folder / "0" / name, folder / "1" / name, tmp_path / "alone")
    )
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    # batch norm sees half of a batch
    near = 0.02 if name == "batch norm" else 1e-5
    assert done["losses"] == pytest.approx(alone, abs=near)
    assert max(alone) - min(alone) > 0.1
    if name != "batch norm":
        for key in single:
            torch.testing.assert_close(one[key], single[key], atol=1e-4, rtol=1e-4)


def test_a_signal_to_one_ends_all_and_the_first_writes(folder: Path) -> None:
    assert read_checkpoint(folder / "0" / "stopped")[2]["step"] == 4
    assert not (folder / "1" / "stopped").exists()


def test_a_batch_without_equal_parts_is_refused() -> None:
    processes = Processes("cpu")
    assert processes.rows(6) == slice(0, 6)
    processes.index, processes.count = 2, 3
    assert processes.rows(6) == slice(4, 6)
    with pytest.raises(NvaeCodecError, match=r"training\.batch = 7 is not a multiple of the 3 processes"):
        processes.rows(7)


def test_a_process_without_its_launcher_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Processes("cpu").first
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(NvaeCodecError, match="not MASTER_ADDR, MASTER_PORT: start the processes with torchrun"):
        Processes("cpu")


def test_no_message_has_all_gradients() -> None:
    tensors = [torch.zeros(size) for size in (BUCKET, 3, BUCKET - 3, 1, 2 * BUCKET, 5)]
    sizes = [[len(tensor) for tensor in bucket] for bucket in fill_buckets(tensors)]
    assert sizes == [[BUCKET], [3, BUCKET - 3], [1], [2 * BUCKET], [5]]


def test_parts_of_a_batch_have_the_noise_of_the_whole() -> None:
    whole = torch.zeros(6, 3, 5, 4).to(memory_format=torch.channels_last)
    for draw in (Noise.normal, Noise.uniform):
        torch.manual_seed(1)
        every, after = draw(Noise(), whole), torch.rand(1)
        for index in range(3):
            torch.manual_seed(1)
            assert torch.equal(draw(Noise(index, 3), whole[:2]), every[2 * index :][:2])
            assert torch.equal(torch.rand(1), after)


def test_parts_of_a_batch_are_its_crops(folder: Path) -> None:
    data = open_images(folder, make_recipe("phases of two levels", "training.rotate = 5.0"))
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    assert np.array_equal(data.draw(6, one, slice(2, 4)), data.draw(6, other)[2:4])
    assert one.integers(2**62) == other.integers(2**62)
