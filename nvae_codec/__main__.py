"""python -m nvae_codec: the command line."""

import importlib
import sys

sys.exit(importlib.import_module("nvae_codec.cli.main").main())
