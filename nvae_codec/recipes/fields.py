"""Trees of frozen dataclasses whose fields explain themselves, and their form as TOML.

A field's line of explanation is shown when its value is refused; unknown keys and wrong types are refused by name.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import field
from typing import Any

from nvae_codec.errors import RecipeError


def explained(default: Any, text: str) -> Any:
    """A field with its line of explanation, shown when a value is refused."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


def require(condition: bool, owner: Any, name: str, prefix: str = "") -> None:
    """Raise RecipeError with the field's name, value and explanation where a condition does not hold."""
    if not condition:
        text = next(f.metadata.get("help", "") for f in dataclasses.fields(owner) if f.name == name)
        raise RecipeError(f"{prefix}{name} = {getattr(owner, name)!r} is not possible: {text}")


def write_table(node: Any, prefix: str, lines: list[str]) -> None:
    """Append a dataclass as TOML to lines: its values, then its tables under ``prefix``; None is left out."""
    tables = []
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            tables.append((f"{prefix}{item.name}", value))
        elif value is not None:
            text = {True: "true", False: "false"}[value] if isinstance(value, bool) else None
            lines.append(
                f"{item.name} = {text or (chr(34) + value + chr(34) if isinstance(value, str) else repr(value))}"
            )
    for name, value in tables:
        lines += ["", f"[{name}]"]
        write_table(value, name + ".", lines)


def build(kind: type, table: dict[str, Any], prefix: str) -> Any:
    """A dataclass of a kind from a TOML table, checked. Raises RecipeError with the name below ``prefix``."""
    known = {item.name: item for item in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in table.items():
        if name not in known:
            raise RecipeError(f"unknown key {prefix}{name}; here are: {', '.join(known)}")
        values[name] = _convert(hints[name], value, f"{prefix}{name}", known[name].metadata.get("help", ""))
    built = kind(**values)
    try:
        built.check()
    except RecipeError as error:
        raise RecipeError(f"{prefix}{error}") from None
    return built


def _convert(hint: Any, value: Any, name: str, text: str) -> Any:
    if isinstance(hint, types.UnionType):  # a table that may be left out
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise RecipeError(f"{name} is a table: [{name}]")
        return build(typing.cast(type, hint), value, name + ".")
    if isinstance(hint, types.GenericAlias):
        if isinstance(value, list) and all(type(entry) is int for entry in value):
            return value
    elif (hint is float and type(value) in (int, float)) or type(value) is hint:
        return hint(value)
    raise RecipeError(f"{name} = {value!r} has the wrong type: {text}")
