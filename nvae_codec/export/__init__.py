"""From a trained float network to an integer model."""
