"""The frozen network on integers: the same numbers on every machine."""
