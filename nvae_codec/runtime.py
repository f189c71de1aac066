"""Where a network runs, as options and calls name it."""

DEVICES = ("auto", "cpu", "cuda")
"""auto: CUDA where it is, and where a frozen model computes its integers there."""
