"""Recipes as TOML: found by name, read with what they extend, changed by dotted keys, written.

A file with ``extends = "NAME"`` takes the values of another recipe and changes some of them:

    extends = "cifar10"
    name = "mine"

    [network]
    flows = 0
"""

import contextlib
import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nvae_codec.errors import RecipeError
from nvae_codec.recipes.fields import Builder, format_table, merge
from nvae_codec.recipes.recipe import Recipe
from nvae_codec.zoo.library import MODELS_FOLDER

MOST_BYTES = 1 << 16
MOST_COLUMNS = 1000
"""Of a line, so that dotted keys, for which tomllib takes time by the square of their parts, are short."""
MOST_EXTENDED = 8
"""Files that a recipe extends, one through another."""


def list_recipes() -> dict[str, Path]:
    """The recipes that come with the package by name: those in models/recipes, then those of the shipped models."""
    found = {path.parent.name: path for path in MODELS_FOLDER.glob("*/recipe.toml")}
    found |= {path.stem: path for path in (MODELS_FOLDER / "recipes").glob("*.toml")}
    return dict(sorted(found.items()))


def summarize_recipe(path: Path) -> str:
    """The comment at a recipe's top in one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    top = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:top])


def find_recipe(recipe: str | Path, folder: Path | None = None) -> Path:
    """The file of a recipe: a path (relative to ``folder`` where that is given), or a name. Raises RecipeError."""
    path = (folder or Path()) / recipe
    with contextlib.suppress(OSError):  # a name that is too long
        if path.is_file():
            return path
    known = list_recipes()
    if str(recipe) not in known:
        near = difflib.get_close_matches(str(recipe), known, 1, 0)
        wanted = f"did you mean {near[0]}? " if near and Path(recipe).suffix != ".toml" else ""
        raise RecipeError(f"{recipe}: no such recipe; {wanted}here are: {', '.join(known)}")
    return known[str(recipe)]


def read_recipe(recipe: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe by its path or name, with changes such as ``"network.flows=0"``.

    Raises RecipeError with the file's name and all that is wrong, or OSError.
    """
    path = find_recipe(recipe)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        return parse_recipe(content.decode(), changes, path.parent)
    except (RecipeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{recipe}: {error}") from None


def parse_recipe(text: str, changes: Sequence[str] = (), folder: Path | None = None) -> Recipe:
    """The recipe of a TOML text; paths that it extends are relative to ``folder``. Raises RecipeError."""
    table = _parse_table(text, folder)
    for change in changes:
        table = merge(table, _parse_change(change))
    builder = Builder(Recipe)
    recipe: Recipe = builder.build(Recipe, table)
    builder.check()
    return recipe


def format_recipe(recipe: Recipe) -> str:
    """The whole recipe as TOML, which :func:`parse_recipe` reads back equal."""
    return "\n".join(format_table(recipe)) + "\n"


def _parse_table(text: str, folder: Path | None, depth: int = 0) -> dict[str, Any]:
    """The table of a text, merged into that of the recipe that it extends."""
    if len(text.encode()) > MOST_BYTES:
        raise RecipeError(f"larger than {MOST_BYTES} bytes")
    if any(len(line) > MOST_COLUMNS for line in text.splitlines()):
        raise RecipeError(f"a line is longer than {MOST_COLUMNS} characters")
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also integers of too many digits
        raise RecipeError(f"not TOML: {error or 'nested too deeply'}") from None
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise RecipeError("extends is not the name or path of a recipe")
    if depth == MOST_EXTENDED:
        raise RecipeError(f"extends {base}, and so on: more than {MOST_EXTENDED} recipes")
    path = find_recipe(base, folder)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"extends {base}: {error}") from None
    return merge(_parse_table(text, path.parent, depth + 1), table)


def _parse_change(change: str) -> dict[str, Any]:
    """``"network.flows=0"`` as nested tables; a value that is not TOML is taken as a string."""
    key, equals, value = change.partition("=")
    if not equals or len(change) > MOST_COLUMNS:
        raise RecipeError(f"{change[:60]!r} is not KEY=VALUE, as network.flows=0")
    try:
        table: Any = tomllib.loads(f"value = {value.strip()}")["value"]
    except (ValueError, RecursionError):
        table = value.strip()
    for part in reversed(key.strip().split(".")):
        table = {part: table}
    return dict(table)
