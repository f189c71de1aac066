"""Pages of the site that are made of other files: the models' cards, and the reference of the commands."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: Any) -> Files:
    """Add models/NAME/card.md as models/NAME.md, with links as seen from there, and commands.md."""
    for card in sorted((ROOT / "models").glob("*/card.md")):
        text = card.read_text(encoding="utf-8").replace("](../../docs/", "](../")
        text = re.sub(r"\]\(\.\./([\w-]+)/card\.md", r"](\1.md", text)
        files.append(File.generated(config, f"models/{card.parent.name}.md", content=text))
    sys.path.insert(0, str(ROOT))  # `mkdocs` alone does not find tools/
    from tools.reference import commands_page

    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files
