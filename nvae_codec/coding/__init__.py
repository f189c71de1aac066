"""The algorithm: the stack, distributions of latents, the coding pass of a batch, and the codec's two verbs."""
