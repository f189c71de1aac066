"""The machine that a measurement was made on, for the results that are committed."""

import os
import platform
from pathlib import Path


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, and the versions that matter."""
    import constriction
    import numpy
    import torch

    from nvae_codec import __version__

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count() or 1,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "constriction": constriction.__version__ if hasattr(constriction, "__version__") else "0.5",
        "nvae_codec": __version__,
    }
