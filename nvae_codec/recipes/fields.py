"""Trees of frozen dataclasses whose fields carry their bounds and a line of help, and their form as TOML.

:class:`Builder` reads a tree from a TOML table. It collects every fault: unknown keys with the nearest known one, wrong
types, values out of bounds, and what the dataclasses' own ``faults`` methods find.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator
from dataclasses import field
from typing import Any

from nvae_codec.errors import RecipeError

MOST_FAULTS = 20
"""Faults that are collected and named."""
MOST_SHOWN = 60
"""Characters of a wrong value in a message."""


def option(default: Any, text: str, within: str = "", among: tuple[Any, ...] = (), length: str = "") -> Any:
    """A field with its help and bounds.

    within: an interval such as ``"(0, 1]"`` of a number, or of each in a list; among: the values that are possible;
    length: the interval of a list's length. The default may be a type: a table that may be left out.
    """
    metadata = {"help": text, "within": within, "among": among, "length": length}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def is_within(value: float, interval: str) -> bool:
    """Whether a number lies in an interval: ``[`` and ``]`` include their end, ``(`` and ``)`` do not."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = low <= value if interval[0] == "[" else low < value
    return above and (value <= high if interval[-1] == "]" else value < high)


class Builder:
    """Reads dataclasses from tables, and collects what is wrong with them in ``faults``."""

    def __init__(self, root: type) -> None:
        self.known = list(_list_keys(root))
        self.faults: list[str] = []

    def build(self, kind: Any, table: dict[str, Any], prefix: str = "") -> Any:
        """A dataclass from a table whose keys follow ``prefix``; faulty fields get their defaults."""
        fields = {item.name: item for item in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        values, before = {}, len(self.faults)
        for name, value in table.items():
            if len(self.faults) >= MOST_FAULTS:
                break
            if name in fields:
                read = self._read(hints[name], value, prefix + name, fields[name].metadata)
                if read is not None:
                    values[name] = read
            else:
                self.faults.append(f"unknown key {_shorten(prefix + name)}{self._suggest(prefix + name)}")
        built = kind(**values)
        if len(self.faults) == before and hasattr(built, "faults"):
            self.faults += [prefix + fault for fault in built.faults()]
        return built

    def check(self) -> None:
        """Raise RecipeError with all the faults in one line."""
        if self.faults:
            raise RecipeError("; ".join(self.faults))

    def _read(self, hint: Any, value: Any, path: str, metadata: Any) -> Any:
        """A field's value, or None where it is faulty."""
        if isinstance(hint, types.UnionType):  # a table that may be left out
            hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        if dataclasses.is_dataclass(hint):
            if isinstance(value, dict):
                return self.build(hint, value, path + ".")
            self.faults.append(f"{path} is a table: [{path}]")
            return None
        fault, numbers = "", value if isinstance(value, list) else [value]
        if hint is float and type(value) is int and abs(value) < 1 << 1000:
            value = float(value)
        kinds = {list} if isinstance(hint, types.GenericAlias) else {hint}
        if type(value) not in kinds or (list in kinds and not all(type(entry) is int for entry in numbers)):
            fault = "has the wrong type"
        elif metadata["among"] and value not in metadata["among"]:
            fault = f"is not one of {', '.join(map(str, metadata['among']))}"
        elif metadata["length"] and not is_within(len(numbers), metadata["length"]):
            fault = f"has a length outside {metadata['length']}"
        elif metadata["within"] and not all(is_within(number, metadata["within"]) for number in numbers):
            fault = f"is not in {metadata['within']}"
        if fault:
            self.faults.append(f"{path} = {_shorten(repr(value))} {fault}: {metadata['help']}")
            return None
        return value

    def _suggest(self, path: str) -> str:
        """The same key of another table, or else the one that is spelled most like it."""
        leaf = "." + path.rpartition(".")[2]
        found = [key for key in self.known if ("." + key).endswith(leaf)]
        found = found or difflib.get_close_matches(path[:MOST_SHOWN], self.known, 1, 0)
        return f" (did you mean {found[0]}?)" if found else ""


def _list_keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields."""
    for name, hint in typing.get_type_hints(kind).items():
        nested = [each for each in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(each)]
        if nested:
            yield from _list_keys(nested[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


def format_table(node: Any, prefix: str = "") -> Iterator[str]:
    """A dataclass as lines of TOML: its values, then its tables, whose names follow ``prefix``; None is left out."""
    tables = []
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            tables.append((prefix + item.name, value))
        elif value is not None:
            text = str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else value
            yield f"{item.name} = {text!s}" if not isinstance(text, float) else f"{item.name} = {text!r}"
    for name, value in tables:
        yield ""
        yield f"[{name}]"
        yield from format_table(value, name + ".")


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A table with another's values in place of its own; tables in both are merged."""
    merged = dict(base)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict)
        merged[name] = merge(base[name], value) if both else value
    return merged
