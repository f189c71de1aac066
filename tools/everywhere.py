"""The promise that files decode everywhere, checked with the installed command in new processes.

    python -m tools.everywhere IMAGES... [--python OTHER] [--json OUT]

Every image is compressed under each setting (threads, tiles evaluated together, instruction sets, and another Python
with another torch where given); all files must be the same bytes, and each decompresses under the next setting to the
same pixels. Exits with 1 at the first difference.
"""

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nvae_codec.evaluation.machine import describe_machine
from nvae_codec.training.sources import list_images, read_image

OLD_PROCESSOR = {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}


@dataclass(frozen=True)
class Setting:
    """How commands run. ``python`` is the interpreter of this machine, which results say by its torch alone."""

    threads: int
    tiles: int
    environment: dict[str, str]
    torch: str
    python: str

    def describe(self) -> dict[str, Any]:
        """What means something on other machines too."""
        return {key: value for key, value in vars(self).items() if key != "python"}


def list_settings(pythons: list[str]) -> list[Setting]:
    """All combinations of threads, tiles evaluated together, instruction set, and Python."""
    choices = itertools.product(
        (1, 2), (1, 4), ({}, OLD_PROCESSOR), [(read_torch(python), python) for python in pythons]
    )
    return [Setting(threads, tiles, environment, *python) for threads, tiles, environment, python in choices]


def read_torch(python: str) -> str:
    """The version of torch that an interpreter has."""
    code = "import torch; print(torch.__version__)"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def run(setting: Setting, command: str, inputs: list[Path], output: Path) -> None:
    """Run one command over all inputs in a new process."""
    words = [setting.python, "-m", "nvae_codec", command, "-q", "-f", "-o", str(output)]
    words += ["--threads", str(setting.threads), "--batch-tiles", str(setting.tiles)]
    words += ["--method", "model"] if command == "compress" else []
    subprocess.run(words + [str(file) for file in inputs], check=True, env={**os.environ, **setting.environment})


def main() -> None:
    """Check the images of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--python", action="append", default=[], help="another interpreter with the package installed")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    images = [file for image in given.images for file in list_images(image)]
    todo = list_settings([sys.executable, *given.python])
    expected: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, setting in enumerate(todo):
            packed = Path(folder) / str(index)
            restored = Path(folder) / f"{index}r"
            packed.mkdir()  # a single image goes into a folder only where there is one
            restored.mkdir()
            run(setting, "compress", images, packed)
            for file in sorted(packed.iterdir()):
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                if expected.setdefault(file.name, digest) != digest:
                    sys.exit(f"{file.name}: other bytes under {setting.describe()}")
            run(todo[(index + 1) % len(todo)], "decompress", sorted(packed.iterdir()), restored)
            for image in images:
                if not np.array_equal(read_image(image), read_image(restored / f"{image.stem}.png")):
                    sys.exit(f"{image.name}: other pixels under {setting.describe()}")
            done = f"{index + 1} of {len(todo)}: {len(images)} images, same bytes, same pixels"
            print(f"{done}: {setting.describe()}", flush=True)
    if given.json:
        settings = [setting.describe() for setting in todo]
        result = {"machine": describe_machine(), "settings": settings, "files": expected}
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
