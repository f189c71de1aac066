"""The integer network: the same numbers on every machine."""
