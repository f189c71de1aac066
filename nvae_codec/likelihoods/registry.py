"""The likelihoods by the names that recipes and model files give them.

A likelihood is one file of this folder and one row here (docs/extending.md). Recipes are checked by the rows, without
torch; the file is imported when its likelihood is first needed (likelihood.py).
"""

from typing import NamedTuple


class Facts(NamedTuple):
    """Where a likelihood is and which images it is for.

    module: that of its class ``Kind``. channels: colours of a pixel. bits: of a colour value in the recipe. phases:
    whether pixels may come in phases (polyphase.py). binary: whether values are 0 or 1.
    """

    module: str
    about: str
    channels: tuple[int, ...] = (1, 3)
    bits: tuple[int, ...] = tuple(range(1, 9))
    phases: bool = False
    binary: bool = False


LIKELIHOODS = {
    "colourwise": Facts("colourwise", "a mixture of logistics per colour", (3,), (8,), phases=True),
    "joint": Facts("joint", "the official one: the colours of a pixel share their component", (3,)),
    "normal": Facts("normal", "official, one density instead of a mixture"),
    "bernoulli": Facts(
        "bernoulli", "binary images: a gray value v is 1 with probability v / 255", bits=(8,), binary=True
    ),
}
