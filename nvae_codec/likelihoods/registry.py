"""The kinds of likelihood by the names that recipes and model files give them."""

from __future__ import annotations

from nvae_codec.likelihoods.bernoulli import Bernoulli
from nvae_codec.likelihoods.colourwise import Colourwise
from nvae_codec.likelihoods.joint import Joint
from nvae_codec.likelihoods.likelihood import Likelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {"colourwise": Colourwise, "joint": Joint, "bernoulli": Bernoulli}
