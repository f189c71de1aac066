"""Bars on the form of the code: short files and functions, few parameters, no import circles, plain words."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS, MOST_OPTIONS = 400, 60, 10, 12
FOLDERS = {"nvae_codec": "nvae_codec", "cli": "nvae_codec.cli", "tools": "tools"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef))


def count_parameters(function: ast.FunctionDef) -> int:
    given = function.args
    return len([*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))])


@pytest.mark.parametrize("folder", [*FOLDERS, "tests"])
def test_files_and_functions_are_short(folder: str) -> None:
    for path in sources(folder):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, path
        for function in functions(path):
            length = (function.end_lineno or 0) - function.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{path}: {function.name} has {length} lines"
            most = MOST_OPTIONS if folder == "cli" and function.name.endswith("_command") else MOST_PARAMETERS
            count = count_parameters(function)
            assert count <= most, f"{path}: {function.name} has {count} parameters"


def name_module(path: Path) -> str:
    folder, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[folder], *rest]).removesuffix(".__init__")


def imports(path: Path, modules: set[str]) -> Iterator[str]:
    """The modules of the project that a file imports, within functions and for type hints too."""
    package = name_module(path) if path.name == "__init__.py" else name_module(path).rpartition(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            inner = [f"{module}.{alias.name}" for alias in node.names if f"{module}.{alias.name}" in modules]
            yield from inner or ([module] if module in modules else [])


def test_no_import_circles() -> None:
    paths = {name_module(path): path for path in sources(*FOLDERS)}
    graph = {name: set(imports(path, set(paths))) - {name} for name, path in paths.items()}
    del graph["nvae_codec"]  # the public verbs, which everything may use, import what they need when they are called
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in graph and name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_words_of_the_field_are_used() -> None:
    words = r"quantiles?|whole numbers?|lone|anew|mend(s|ed)?|pictures?"
    command = ["git", "grep", "-iwnE", words, "--", "README.md", "docs/*.md", "nvae_codec", "cli"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode > 1:
        pytest.skip("needs git, whose index names the files")
    lines = [line for line in found.stdout.splitlines() if "np.quantile" not in line]
    assert len(lines) < 20, lines
