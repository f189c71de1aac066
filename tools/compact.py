"""A checkpoint made small enough to be kept next to a model: its optimizer's moments in bfloat16, or none.

    python -m tools.compact [--average-only] RUN OUT.safetensors

A run resumes from it (in a folder, as checkpoint.safetensors), no longer bit for bit but to the same quality; from the
average alone it does with new moments. The average is untouched, so freezing it gives the same model.
"""

import argparse
from pathlib import Path

import torch
from safetensors import safe_open

from nvae_codec.training.checkpoint import FILE, read_checkpoint, write_tensors


def compact_checkpoint(run: Path, out: Path, *, average_only: bool = False) -> None:
    """Write the checkpoint of a run (a folder or a file) to ``out``, with bfloat16 moments or the average alone.

    Raises NvaeCodecError.
    """
    _, tensors, _ = read_checkpoint(run)
    with safe_open(str(run / FILE if run.is_dir() else run), framework="pt") as file:
        metadata = file.metadata()
    small = {
        name: value.to(torch.bfloat16) if name.startswith("optimizer.") and value.dim() else value
        for name, value in tensors.items()
        if name.startswith("average.") or not average_only
    }
    write_tensors(out, small, metadata)


def main() -> None:
    """Compact the checkpoint of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--average-only", action="store_true", help="a quarter of the bytes, for a run that is over")
    given = parser.parse_args()
    compact_checkpoint(given.run, given.out, average_only=given.average_only)


if __name__ == "__main__":
    main()
