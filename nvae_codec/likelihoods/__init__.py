"""Likelihoods p(x | z) on integers: their CDF tables, and intervals of pixel values."""
