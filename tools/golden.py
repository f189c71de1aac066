"""Write the golden files of tests/golden again, after a change of the format or of the models that are made there.

    python -m tools.golden [TESTS...]

The tests that compare with golden files write them when NVAE_CODEC_REFRESH_GOLDEN is set. Run it on a clean tree and
look at what changed: a golden file changes only together with docs/format.md or docs/compatibility.md.
"""

import os
import subprocess
import sys

TESTS = (
    "tests/integer/test_same_everywhere.py",
    "tests/coding/test_rate.py",
    "tests/test_format_document.py",
    "tests/test_shipped.py",
)


def main() -> int:
    """Run the tests that write golden files, then all of them again without writing."""
    command = [sys.executable, "-m", "pytest", "-q", *(sys.argv[1:] or TESTS)]
    for environment in ({"NVAE_CODEC_REFRESH_GOLDEN": "1"}, {}):
        code = subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
