"""Models in the cache of Hugging Face, found where its tools put them and never downloaded.

    CACHE ─ models--ORG--NAME ┬ refs ─ main             holds a commit
                              └ snapshots ─ COMMIT ┬ model.safetensors
                                                   └ recipe.toml, README.md

The layout is documented (huggingface_hub, *Manage your cache*), so no package is needed to read it.
"""

from __future__ import annotations

import os
from pathlib import Path

from nvae_codec.errors import UnknownModelError

SCHEME = "hf://"


def cache_folder() -> Path:
    """Where Hugging Face's tools keep what they download: HF_HUB_CACHE, or ``hub`` in HF_HOME or the user's cache."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def find_in_cache(name: str) -> Path | None:
    """The folder that ``hf://ORG/NAME`` or ``hf://ORG/NAME@REVISION`` stands for; None for any other name.

    Raises UnknownModelError where the cache does not have it.
    """
    if not name.startswith(SCHEME):
        return None
    repository, _, revision = name.removeprefix(SCHEME).partition("@")
    parts = repository.split("/")
    if len(parts) != 2 or not all(part.strip(".") for part in parts):
        raise UnknownModelError(f"{name} does not name a model as hf://ORG/NAME does")
    folder = cache_folder() / "--".join(["models", *parts])
    snapshot = find_snapshot(folder, revision or "main")
    if snapshot is None:
        raise UnknownModelError(f"{name} is not in {cache_folder()}; hf download {repository} puts it there")
    return snapshot


def find_snapshot(folder: Path, revision: str = "main") -> Path | None:
    """The snapshot of a folder of the cache that a branch, tag or commit means; None where there is no such."""
    if ".." in revision.split("/"):
        return None
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None
