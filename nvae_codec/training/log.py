"""The log of a run: log.jsonl in its folder, one line per report, and TensorBoard's files if asked for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nvae_codec.errors import NvaeCodecError
from nvae_codec.recipes.files import format_recipe
from nvae_codec.recipes.recipe import Recipe


class Log:
    """The reports of a run."""

    def __init__(self, run: Path, step: int, recipe: Recipe, *, tensorboard: bool) -> None:
        """Write the recipe, and continue after ``step``: lines of later steps, which a killed run left, are dropped.

        Raises NvaeCodecError if TensorBoard is asked for and not installed.
        """
        self._board = _open_board(run, step) if tensorboard else None
        run.mkdir(parents=True, exist_ok=True)
        (run / "recipe.toml").write_text(format_recipe(recipe), encoding="utf-8")
        self._file = run / "log.jsonl"
        if self._file.exists():
            kept = [line for line in self._file.read_text(encoding="utf-8").splitlines() if _is_until(line, step)]
            self._file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append a report."""
        with self._file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in _scalars(line):
                self._board.add_scalar(name, value, line["step"])
            self._board.flush()

    def close(self) -> None:
        """End TensorBoard's file."""
        if self._board is not None:
            self._board.close()


def describe_dead_groups(active: Sequence[float]) -> str:
    """One line that names the groups whose latents carry no information and what helps; empty if there are none.

    active: the share of each group's channels in use, from the top.
    """
    dead = [str(group) for group, share in enumerate(active) if share == 0]
    if not dead:
        return ""
    which = f"group {dead[0]}" if len(dead) == 1 else f"groups {', '.join(dead)}"
    return (
        f"latents: {which} of {len(active)} carry no information; start again with a longer "
        "training.kl_warmup_fraction, a smaller training.kl_start, or network.pyramid_start (docs/training.md)"
    )


def _is_until(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):  # the last line of a killed run may be a part of one
        return False


def _open_board(run: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise NvaeCodecError("--tensorboard needs tensorboard: python -m pip install 'nvae-codec[train]'") from None
    return SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)


def _scalars(line: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Every number of a report with its path of keys and indices, as train_kl/2 or valid/pixels/0."""
    found: list[tuple[str, float]] = []
    for name, value in line.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            found += _scalars({str(index): entry for index, entry in enumerate(value)}, f"{prefix}{name}/")
        elif value is not None:
            found.append((prefix + name, float(value)))
    return found
