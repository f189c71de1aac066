"""Reading and writing images without loss, tiles, classical methods."""
