"""Commands on the same names at once, in threads and in processes, some of them killed: each result is whole.

``KILLS=100 python -m pytest tests/test_concurrency.py`` kills a process of each pair a hundred times.
"""

import importlib
import itertools
import multiprocessing
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

main = importlib.import_module("nvae_codec.cli.main").main

STORED = ("--method", "stored", "-q")
COMMANDS: dict[str, tuple[str, ...]] = {
    "compress": ("compress", "a.png", "-o", "x.nvae", "-f", *STORED),
    "pack": ("pack", "in", "-o", "x.nvae", "-f", *STORED),
    "append": ("pack", "more", "-o", "x.nvae", "--append", *STORED),
    "merge": ("merge", "1.nvae", "2.nvae", "-o", "x.nvae", "-f", "-q"),
    "unpack": ("unpack", "x.nvae", "-o", "back", "-f", "-q"),
    "test": ("test", "x.nvae", "-q"),
}
SINGLE: list[tuple[str, ...]] = [(name,) for name in COMMANDS if name != "test"]
PAIRS = [*itertools.combinations_with_replacement(COMMANDS, 2)]
KILLS = int(os.environ.get("KILLS", "3"))
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, an archive x.nvae and two shards."""
    folder = tmp_path_factory.mktemp("start")
    rng = np.random.default_rng(0)
    for name in ("a.png", "in/a.png", "in/b.png", "more/c.png", "more/d.png", "sharded/e.png", "sharded/f.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["pack", "in", "-o", "x.nvae", "--segment", "1", *STORED]) == 0
        for number in (1, 2):
            shard = ("--segment", "1", "--shard", f"{number}/2")
            assert main(["pack", "sharded", "-o", f"{number}.nvae", *shard, *STORED]) == 0
    return folder


@pytest.fixture
def folder(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(start, tmp_path / "now")
    monkeypatch.chdir(tmp_path / "now")
    return tmp_path / "now"


def results() -> Files:
    """All files that commands write, hidden ones too."""
    found = [*Path().glob("*.nvae"), *Path("back").glob("*"), *Path().glob(".*")]
    return {str(path): path.read_bytes() for path in found}


def outcomes(start: Path, names: tuple[str, ...], place: Path) -> list[Files]:
    """What the commands, or some of them, leave one after another."""
    found = []
    for order in (order for count in range(len(names) + 1) for order in itertools.permutations(names, count)):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(start, place)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(place)
            for name in order:
                main(list(COMMANDS[name]))
            found.append(results())
    return found


def check(possible: list[Files], *, killed: bool) -> None:
    """Each file is what some order of the commands leaves; a temporary file may be there only after a kill."""
    for name, data in results().items():
        if Path(name).name.startswith("."):
            assert killed, name
        else:
            assert data in [files.get(name) for files in possible], name


def in_threads(names: tuple[str, ...], _kill: random.Random | None) -> None:
    threads = [threading.Thread(target=main, args=(list(COMMANDS[name]),)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def in_processes(names: tuple[str, ...], kill: random.Random | None) -> None:
    context = multiprocessing.get_context("fork")  # as nothing is coded by a model, no threads of torch are needed
    processes = [context.Process(target=main, args=(list(COMMANDS[name]),)) for name in names]
    for process in processes:
        process.start()
    if kill is not None:
        writing = kill.random() < 0.5
        while writing and any(process.is_alive() for process in processes) and not any(Path().rglob(".*.part")):
            time.sleep(0.0001)
        time.sleep(kill.random() * (0.002 if writing else 0.1))
        kill.choice(processes).kill()
    for process in processes:
        process.join(60)
        assert process.exitcode is not None


@pytest.mark.parametrize("names", [*SINGLE, *PAIRS], ids="+".join)
def test_commands_at_once_leave_what_one_after_the_other_leaves(
    start: Path, folder: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    possible = outcomes(start, names, tmp_path / "other")
    works: list[tuple[Callable[[tuple[str, ...], random.Random | None], None], int | None]] = [
        (in_threads, None), (in_processes, None), *((in_processes, seed) for seed in range(KILLS))
    ]  # fmt: skip
    for work, seed in works:
        shutil.rmtree(folder)
        shutil.copytree(start, folder)
        os.chdir(folder)
        work(names, None if seed is None else random.Random(f"{names}{seed}"))
        check(possible, killed=seed is not None)


def test_six_first_appends_at_once_lose_nothing(folder: Path) -> None:
    import nvae_codec

    for number in range(6):
        shutil.copy("a.png", f"{number}.png")
    context = multiprocessing.get_context("fork")
    commands = [["pack", f"{number}.png", "-o", "new.nvae", "--append", *STORED] for number in range(6)]
    processes = [context.Process(target=main, args=(command,)) for command in commands]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert sorted(nvae_codec.open_archive(folder / "new.nvae").names) == [f"{number}.png" for number in range(6)]
