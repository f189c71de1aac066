"""Names of the images in an archive: paths with forward slashes that stay within the folder they are unpacked to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST_NAME = 1024  # bytes of UTF-8

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LAST_NUMBER = re.compile(r"([0-9]+)([^0-9]*)\Z")


def name_problem(name: str) -> str:
    """Why a name is refused, in words that follow it; empty where it is a good one."""
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "is no Unicode text"
    if not 0 < length <= LONGEST_NAME:
        return f"does not have 1 to {LONGEST_NAME} bytes"
    if _CONTROL.search(name):
        return "has control characters"
    if "\\" in name or ":" in name:
        return "has a backslash or a colon, which lead elsewhere on other systems"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "is no path below a folder"
    return ""


class Names:
    """The names of an archive so far; each new one must be good, new, and neither in nor above another."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._folders: set[str] = set()
        for name in names:
            self.add(name)

    def problem(self, name: str) -> str:
        """Why a name cannot stand beside the others, in words that follow it; empty where it can."""
        if bad := name_problem(name):
            return bad
        same = unicodedata.normalize("NFC", name)
        if same in self._names:
            return "is there twice"
        if same in self._folders or any(folder in self._names for folder in _folders(same)):
            return "is an image and a folder"
        return ""

    def add(self, name: str) -> str:
        """Take a name that has no problem; gives the problem otherwise."""
        problem = self.problem(name)
        if not problem:
            same = unicodedata.normalize("NFC", name)
            self._names.add(same)
            self._folders.update(_folders(same))
        return problem


def _folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def next_name(name: str) -> str:
    """The name whose last number is one higher, with as many digits at least: a009.png to a010.png.

    A name without a number comes back as it is.
    """
    return _LAST_NUMBER.sub(lambda found: str(int(found[1]) + 1).zfill(len(found[1])) + found[2], name)
