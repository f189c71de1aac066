"""Attack everything that reads files: mutants, hostile models, recipes and checkpoints, and bombs.

    python -m tools.fuzz --minutes 60 --json docs/results/fuzz.json

A mutant may be refused (NvaeCodecError) or read. What fails is anything else that is raised, other pixels than those of
the sound file, more than --seconds of time, and more than --megabytes of memory beyond what sound files take.
"""

import argparse
import json
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import numpy as np

from nvae_codec.errors import NvaeCodecError
from nvae_codec.evaluation.machine import describe_machine
from nvae_codec.files import write_atomic
from nvae_codec.images.limits import limit_pixels
from tools.fuzz_target import Target
from tools.fuzz_targets import make_targets, read_sound

SHARES = {"mutants": 0.93, "models": 0.03, "recipes": 0.02, "checkpoints": 0.01, "bombs": 0.01}
"""Of the cases, by group."""


MOST_PIXELS = 1 << 24
"""As --max-pixels: an image takes memory in proportion to its size, which a few bytes of WebP can claim."""


class TooLongError(Exception):
    """A mutant took more time than it may."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TooLongError from what takes more seconds of the CPU, or ten times as long, as on a busy machine."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooLongError(f"more than {seconds} s")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 10 * seconds)}
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def peak_megabytes() -> int:
    """The most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@dataclass
class Result:
    """What came of the cases, and what failed."""

    first_seed: int
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    slowest: float = 0.0
    start: float = field(default_factory=time.monotonic)
    sound_megabytes: int = 0

    @property
    def cases(self) -> int:
        """How many there were."""
        return sum(count["cases"] for count in self.counts.values())

    def describe(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "cases": self.cases, "seed": self.first_seed, "seconds": round(time.monotonic() - self.start),
            "resealed": sum(count["resealed"] for count in self.counts.values()),
            "max_pixels": MOST_PIXELS, "slowest_cpu_seconds": round(self.slowest, 2), "megabytes": peak_megabytes(),
            "megabytes_of_sound_files": self.sound_megabytes, "machine": describe_machine(),
            "of": {name: dict(count) for name, count in self.counts.items()}, "failures": self.failures,
        }  # fmt: skip


def attack(group: str, target: Target, seed: int, seconds: int, megabytes: int, result: Result) -> None:
    """Read one mutant, and count what came of it."""
    count = result.counts.setdefault(group, Counter())
    count["cases"] += 1
    mutant, resealed = target.make(np.random.default_rng(seed))
    count["resealed"] += resealed
    start, before = time.process_time(), peak_megabytes()
    failed = ""
    try:
        with time_limit(seconds):
            target.read(mutant)
        count["read"] += 1
    except NvaeCodecError:
        count["refused"] += 1
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"[:200]
    result.slowest = max(result.slowest, time.process_time() - start)
    grown = peak_megabytes()
    if grown > max(before, result.sound_megabytes + megabytes):
        failed = failed or f"{grown - result.sound_megabytes} MB more than sound files take"
    if failed:
        count["failed"] += 1
        result.failures.append({"target": target.name, "seed": seed, "why": failed})


def run(
    cases: int,
    first_seed: int = 0,
    *,
    seconds: int = 20,
    megabytes: int = 300,
    minutes: float = 0,
    json_file: Path | None = None,
) -> Result:
    """Attack so many times, or for so many minutes where ``cases`` is 0; the result is written now and then."""
    result, before = Result(first_seed), limit_pixels(MOST_PIXELS)
    names, shares = list(SHARES), list(SHARES.values())
    with TemporaryDirectory() as folder:
        groups = make_targets(Path(folder))
        read_sound([target for targets in groups.values() for target in targets])
        result.sound_megabytes = peak_megabytes()
        seed = first_seed
        while seed < first_seed + cases if cases else time.monotonic() < result.start + 60 * minutes:
            rng = np.random.default_rng((1, seed))
            group = names[rng.choice(len(names), p=shares)]
            targets = groups[group]
            attack(group, targets[rng.integers(len(targets))], seed, seconds, megabytes, result)
            seed += 1
            if json_file is not None and seed % 1000 == 0:
                write_json(json_file, result)
    limit_pixels(before)
    return result


def write_json(path: Path, result: Result) -> None:
    """Write what there is so far."""
    write_atomic(path, (json.dumps(result.describe(), indent=1) + "\n").encode(), force=True)


def main() -> None:
    """Attack as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=0, help="instead of --minutes")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    limits = {"seconds": given.seconds, "megabytes": given.megabytes, "minutes": given.minutes}
    result = run(given.cases, given.seed, **limits, json_file=given.json)
    if given.json:
        write_json(given.json, result)
    print(json.dumps(result.describe(), indent=1))
    raise SystemExit(bool(result.failures))


if __name__ == "__main__":
    main()
