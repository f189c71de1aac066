"""Finding image files in folders, and saying what is left there."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset(
    (
        ".png", ".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".bmp", ".dib", ".webp", ".tif", ".tiff",
        ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi",
    )
)  # fmt: skip
"""Of the files that are taken from a folder; a file that is named itself may have any name."""

SAME_SUFFIXES = {".jpg": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi")}
"""Of files that are of one format, by its usual suffix."""

_APPLEDOUBLE = b"\x00\x05\x16\x07"  # what macOS writes as ._NAME next to NAME on foreign file systems
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8", b"RIFF", b"BM", b"II", b"MM", b"P")
_OF_SYSTEMS = frozenset((".ds_store", "thumbs.db", "desktop.ini"))
_NAMED = 10  # files that a summary names


@dataclass
class Findings:
    """What is in a folder: the files that were asked for, sorted, and what else is there."""

    files: list[Path] = field(default_factory=list)
    other: list[Path] = field(default_factory=list)  # files of other kinds
    links: list[Path] = field(default_factory=list)  # to folders, which are not followed
    special: list[Path] = field(default_factory=list)  # devices, pipes and sockets
    unreadable: list[Path] = field(default_factory=list)  # folders and broken links

    def add(self, more: Findings) -> None:
        """Take what is in another folder, too."""
        self.files += more.files
        self.other += more.other
        self.links += more.links
        self.special += more.special
        self.unreadable += more.unreadable

    def summarize(self) -> str:
        """One line on what is left out, with the first names of each kind; empty where nothing is."""
        kinds = (
            (self.unreadable, "that cannot be read"),
            (self.other, "of no known kind"),
            (self.links, "that lead to folders"),
            (self.special, "that are no files"),
        )
        parts = []
        for paths, why in kinds:
            if paths:
                names = [str(path) for path in paths[:_NAMED]] + ["..."] * (len(paths) > _NAMED)
                parts.append(f"{len(paths)} {why} ({', '.join(names)})")
        return f"left out: {'; '.join(parts)}" if parts else ""


def find_files(folder: Path, suffixes: Collection[str] = SUFFIXES) -> Findings:
    """The files below a folder whose names end in ``suffixes``, in any case.

    Links to files are followed, links to folders are not: what lies there is found where it lies. Companions that
    macOS makes (._NAME) are passed over.
    """
    found = Findings()

    def cannot_read(error: OSError) -> None:
        found.unreadable.append(Path(error.filename))

    for place, folders, names in os.walk(folder, onerror=cannot_read):
        found.links += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        for name in names:
            _sort_in(Path(place, name), suffixes, found)
    found.files.sort()
    return found


def _sort_in(path: Path, suffixes: Collection[str], found: Findings) -> None:
    if path.name.lower() in _OF_SYSTEMS:
        return
    try:
        mode = path.stat().st_mode
        beginning = b""
        if path.name.startswith("._") and stat.S_ISREG(mode):
            with path.open("rb") as file:
                beginning = file.read(4)
    except OSError:
        found.unreadable.append(path)
        return
    if beginning == _APPLEDOUBLE:
        return
    suffix = path.suffix.lower()
    if not stat.S_ISREG(mode):
        found.special.append(path)
    elif suffix in suffixes and not (beginning and not beginning.startswith(_BEGINNINGS)):
        found.files.append(path)
    elif suffix != ".nvae":
        found.other.append(path)
