"""Stack, intervals, latents, pixels, and the walk that codes a batch."""
