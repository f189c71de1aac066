"""The reference of the commands, as the site's page and as man pages.

python -m tools.reference FOLDER      # writes nvae-codec.1, nvae-codec-compress.1, ... there
"""

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from nvae_codec import __version__
from nvae_codec.cli.main import nvae_codec as group

PROGRAM = "nvae-codec"
Records = list[tuple[str, str]]


def list_commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with the name that it is called by and a context to ask its parameters in."""
    parent = click.Context(group, info_name=PROGRAM)
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        yield name, command, click.Context(command, info_name=name, parent=parent)


def option_records(command: click.Command, context: click.Context) -> Records:
    """Each option as --help writes it, and what it does."""
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    return [record for record in records if record is not None and record[1] and record[0] != "--help"]


def usage(command: click.Command, context: click.Context) -> str:
    """``nvae-codec compress [OPTIONS] INPUT...``."""
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def paragraphs(command: click.Command) -> list[str]:
    """The help text, a paragraph per item, each in one line."""
    return [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]


def commands_page() -> str:
    """The page of all commands, in Markdown."""
    parts = ["# Commands", "All commands take `-h` or `--help`."]
    for name, command, context in list_commands():
        rows = [f"| {_code(option)} | {_escape(text)} |" for option, text in option_records(command, context)]
        parts += [f"## {name}", f"```text\n{usage(command, context)}\n```", *map(_escape, paragraphs(command))]
        parts.append("\n".join(["| option | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def man_page(name: str, command: click.Command, context: click.Context) -> str:
    """The page of a command in the format of man(7)."""
    first, *more = paragraphs(command)
    lines = [f'.TH "{name.upper()}" 1 "" "nvae-codec {__version__}"', ".SH NAME", f"{name} \\- {_roff(first)}"]
    lines += [".SH SYNOPSIS", _roff(usage(command, context)), ".SH DESCRIPTION", _roff(first)]
    for text in more:
        lines += [".PP", _roff(text)]
    lines.append(".SH OPTIONS")
    for option, text in option_records(command, context):
        lines += [".TP", f".B {_roff(option)}", _roff(text)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for sub, each, _ in list_commands():
            lines += [".TP", f".B {_roff(sub)}", _roff(paragraphs(each)[0])]
    return "\n".join(lines) + "\n"


def man_pages() -> dict[str, str]:
    """Every man page by the name of its file."""
    pages = {f"{PROGRAM}.1": man_page(PROGRAM, group, click.Context(group, info_name=PROGRAM))}
    for name, command, context in list_commands():
        pages[f"{PROGRAM}-{name}.1"] = man_page(f"{PROGRAM}-{name}", command, context)
    return pages


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _escape(text: str) -> str:
    for character in "\\|<>*_[]":
        text = text.replace(character, "\\" + character)
    return text


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def main() -> None:
    """Write the man pages to the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in man_pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
