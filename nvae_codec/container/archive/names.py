"""Names of the images in an archive: paths with forward slashes that stay within the folder they are unpacked to."""

import re
import unicodedata
from collections.abc import Sequence

LONGEST_NAME = 1024  # bytes of UTF-8
MOST_FOLDERS = 64

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
    parts = name.split("/")
    if len(parts) > MOST_FOLDERS + 1:
        return f"is in more than {MOST_FOLDERS} nested folders"
    if any(part in ("", ".", "..") for part in parts):
        return "is no path below a folder"
    return ""


def name_problems(names: Sequence[str]) -> dict[int, str]:
    """What is wrong with the names of an archive, by their position; of two that conflict, with the later one.

    Each name must be good, differ from the others in normal form C, and be neither a folder of another nor in one.
    """
    problems = {at: problem for at, name in enumerate(names) if (problem := name_problem(name))}
    # with NUL, which no name has, for the slash, what is in a folder of a name follows that name
    keys = [unicodedata.normalize("NFC", name).replace("/", "\0") for name in names]
    before: int | None = None
    for at in sorted((at for at in range(len(names)) if at not in problems), key=keys.__getitem__):
        conflict = before is not None and (keys[at] + "\0").startswith(keys[before] + "\0")
        if before is not None and conflict:
            same = keys[at] == keys[before]
            problems[max(at, before)] = "is there twice" if same else "is an image and a folder"
        if not conflict or at not in problems:
            before = at
    return problems


def next_name(name: str) -> str:
    """The name whose last number is one higher, with as many digits at least: a009.png to a010.png.

    A name without a number comes back as it is.
    """
    return _LAST_NUMBER.sub(lambda found: str(int(found[1]) + 1).zfill(len(found[1])) + found[2], name)
