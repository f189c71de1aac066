"""python -m nvae_codec: the command line."""

import sys

from nvae_codec.cli.main import run

sys.exit(run())
