"""The library in ten lines: compress a photograph, restore it, and compare the file with the model's bound.

python examples/library.py examples/parrots.png
"""

import sys

import numpy as np
from PIL import Image

import nvae_codec
from nvae_codec.evaluation import integer_elbo

with Image.open(sys.argv[1]) as image:
    pixels = np.asarray(image.convert("RGB"))
model = nvae_codec.load_model("photo")
data = nvae_codec.compress(pixels, model=model, method="model")
assert np.array_equal(nvae_codec.decompress(data, model=model), pixels)
print(f"file       {8 * len(data) / pixels.size:.4f} bits/dim")
print(f"integer-model ELBO {integer_elbo(pixels, model, seed=0, samples=1).bits_per_dim:.4f} bits/dim")
