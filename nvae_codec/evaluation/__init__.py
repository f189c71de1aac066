"""Where the bits go: float ELBO, exact ELBO, file."""

from nvae_codec.evaluation.elbo import PictureElbo, exact_elbo, float_elbo

__all__ = ["PictureElbo", "exact_elbo", "float_elbo"]
