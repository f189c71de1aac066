"""What the site has beside the pages of this folder: the models' cards, each as a page of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

MODELS = Path(__file__).parents[1] / "models"


def on_files(files: Files, config: Any) -> Files:
    """Add models/NAME/card.md as the page models/NAME.md, with its links as that place sees them."""
    for card in sorted(MODELS.glob("*/card.md")):
        text = card.read_text(encoding="utf-8").replace("](../../docs/", "](../")
        files.append(File.generated(config, f"models/{card.parent.name}.md", content=text))
    return files
