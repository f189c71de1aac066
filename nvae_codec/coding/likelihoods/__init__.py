"""p(x | z) on integers, a room a kind: intervals of known values, and values found from quantiles."""

from nvae_codec.coding.likelihoods.bernoulli import Bernoulli
from nvae_codec.coding.likelihoods.colourwise import Colourwise
from nvae_codec.coding.likelihoods.joint import Joint
from nvae_codec.coding.likelihoods.likelihood import Distribution, Likelihood

__all__ = ["LIKELIHOODS", "Bernoulli", "Colourwise", "Distribution", "Joint", "Likelihood"]

LIKELIHOODS: dict[str, type[Likelihood]] = {"colourwise": Colourwise, "joint": Joint, "bernoulli": Bernoulli}
"""By kind, as recipes and model files name them."""
