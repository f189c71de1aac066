"""Kills at random while files are written: each is then the old one or the new one, byte for byte, and never a part.

``python -m tests.kill --kills 100`` runs the long way; ``tests/test_kill.py`` a short one.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

IMAGES, SIDE = 24, 96
COMMAND = (sys.executable, "-m", "nvae_codec")
Files = dict[str, bytes]


def read_folder(folder: Path) -> Files:
    """The files that have their names; what a killed run leaves has a hidden one."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.nvae"))}


def write_folder(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def prepare_compress(folder: Path) -> tuple[Sequence[str | Path], Files, Path]:
    """Compress a folder of images over the files of other images; the command, the files before, their folder."""
    out = folder / "out"
    old, new = (save_noise(folder / name, seed) for seed, name in enumerate(("old", "new")))
    subprocess.run([*COMMAND, "compress", old, "-o", out, "--method", "stored"], check=True)
    return (*COMMAND, "compress", new, "-o", out, "--method", "stored", "-f"), read_folder(out), out


def prepare_append(folder: Path) -> tuple[Sequence[str | Path], Files, Path]:
    """Append a folder of images to an archive; the command, the archive before, its folder."""
    out = folder / "out"
    out.mkdir()
    old, new = (save_noise(folder / name, seed, name) for seed, name in enumerate(("old", "new")))
    pack = (*COMMAND, "pack", "-o", out / "some.nvae", "--segment", "2", "--method", "stored")
    subprocess.run([*pack, old], check=True)
    return (*pack, "--append", new), read_folder(out), out


CASES: dict[str, Callable[[Path], tuple[Sequence[str | Path], Files, Path]]] = {
    "compress": prepare_compress,
    "pack --append": prepare_append,
}


def save_noise(folder: Path, seed: int, prefix: str = "") -> Path:
    """Images that take long to write for their size."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for index in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(folder / f"{prefix}{index:02}.png")
    return folder


def wait_for_writing(process: subprocess.Popen[bytes], out: Path) -> None:
    """Return once the first temporary file is there, or the process has ended."""
    while process.poll() is None and not any(out.glob(".*.part")):
        time.sleep(0.001)


def run(kills: int, seed: int = 0) -> dict[str, Counter[str]]:
    """Kill each command so many times, half of them anywhere, half while it writes, and count what was there then.

    Raises AssertionError where a file is neither the old one nor the new one.
    """
    return {name: _run_case(name, kills, random.Random(seed)) for name in CASES}


def _run_case(name: str, kills: int, rng: random.Random) -> Counter[str]:
    counts: Counter[str] = Counter(dict.fromkeys(("kills", "ended before", "old", "new", "some of each", "parts"), 0))
    with TemporaryDirectory() as folder:
        command, before, out = CASES[name](Path(folder))
        start = time.time()
        process = subprocess.Popen(command)
        wait_for_writing(process, out)
        opened = time.time()
        assert process.wait() == 0
        renamed = max(path.stat().st_ctime for path in out.iterdir())
        whole, writing = renamed - start, renamed - opened
        after = read_folder(out)
        assert before.keys() == after.keys()
        assert not any(before[key] == after[key] for key in before)
        while counts["kills"] < kills:
            write_folder(out, before)
            process = subprocess.Popen(command)
            anywhere = rng.random() < 0.5
            if not anywhere:
                wait_for_writing(process, out)
            time.sleep(rng.random() * (whole if anywhere else writing))
            process.kill()
            if process.wait() == 0:
                counts["ended before"] += 1
                continue
            counts["kills"] += 1
            counts["parts"] += any(out.glob(".*.part"))
            counts[_compare(read_folder(out), before, after)] += 1
    return counts


def _compare(found: Files, before: Files, after: Files) -> str:
    assert found.keys() == before.keys()
    torn = [key for key, data in found.items() if data not in (before[key], after[key])]
    assert not torn, f"neither old nor new: {torn}"
    return "old" if found == before else "new" if found == after else "some of each"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(run(options.kills, options.seed), indent=1))


if __name__ == "__main__":
    main()
