"""Work on many images in several processes or on a Ray cluster."""
