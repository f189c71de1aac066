"""Reading and writing pictures without loss, tiles, classical methods."""
