"""Per-image adaptation: small changes of a model's layers that a file carries for its own images.

    parameters.py   what a file says: the expert, and integer changes of layers; as bytes and back
    binary.py       the adaptive binary coder of those bytes
    layers.py       from changes to the adapted integer model, proved exact again
    sample.py       features and pixels of a sample of the images, computed once by the integer network
    kernel.py       value and gradient of the likelihood, compiled
    optimize.py     the changes that make image and changes together smallest
    effort.py       what each level of ``--effort`` does

Decoding needs the first three alone, all integer. The others choose what is written and may use floats:
docs/adaptation.md.
"""

EFFORTS = range(1, 10)
"""Levels of effort: 1 takes the model as it is, higher ones search longer for smaller files."""
DEFAULT_EFFORT = 5
LEAST_PIXELS = 256
"""Images of fewer pixels together are too small to pay for any adaptation."""
