"""Where the bits go: float ELBO, exact ELBO, file."""
