"""Histories: the processing of images before they are compressed, as augmentation of training crops.

Few images on disk come straight from a camera's sensor. They were decoded from JPEG, their chroma was halved, they were
resized, sharpened or toned. Each step leaves statistics that a likelihood can use: blocks of 8x8, chroma without fine
detail, correlated neighbours. :func:`apply_history` draws a history and applies it to a region larger than the crop, so
that filters see no border, and the crop may have any position on the 8x8 grid.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from nvae_codec.recipes.histories import KINDS, HistoriesRecipe

Pixels = NDArray[np.uint8]
"""RGB, (H, W, 3), or of several crops (N, 3, H, W)."""
Floats = NDArray[np.float32]
"""RGB in 0 to 255, (H, W, 3)."""

MARGIN = 32
"""Pixels that a region has on each side of its crop, where the image has them."""
BLOCK = 16
"""Pixels of a JPEG's minimum coded unit with 4:2:0 (ITU-T T.81, A.2): two blocks of 8 pixels of luma."""
BORDER = 8
"""Pixels at the border of a region that filters may have changed, which crops avoid."""
SMOOTH = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
SHRINKING = (Image.Resampling.BOX, Image.Resampling.HAMMING, *SMOOTH)
ENLARGING = (Image.Resampling.NEAREST, *SMOOTH)
SUBSAMPLINGS = {"jpeg_420": 2, "jpeg_444": 0}
"""Pillow's numbers."""
FROM_YCBCR = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)
"""Y, Cb, Cr to R, G, B (JFIF 1.02, page 3), chroma around zero."""
TO_YCBCR = np.linalg.inv(FROM_YCBCR).astype(np.float32)


def draw_kind(recipe: HistoriesRecipe, rng: np.random.Generator) -> int:
    """An index into KINDS, by the recipe's shares."""
    return int(rng.choice(len(KINDS), p=recipe.shares))


def apply_history(region: Pixels, kind: int, side: int, recipe: HistoriesRecipe, rng: np.random.Generator) -> Pixels:
    """A crop, uint8 (side, side, 3), of a region (H, W, 3) after a random history of a kind (index into KINDS).

    H and W are at least ``side``. The history is applied to the whole region: if that has MARGIN more pixels than the
    crop on each side, filters see no border.
    """
    name = KINDS[kind]
    image = _develop(region, recipe, rng)
    if name == "resized":
        image = resize(image, side, recipe, rng)
    if rng.random() < recipe.sharpen:
        image = sharpen(image, rng)
    if name == "chroma":
        image = halve_chroma(image, rng)
    if name in SUBSAMPLINGS:
        image = through_jpeg(image, int(rng.integers(recipe.quality[0], recipe.quality[1] + 1)), SUBSAMPLINGS[name])
    aligned = name in (*SUBSAMPLINGS, "chroma") and rng.random() < recipe.aligned
    top, left = (_draw_offset(n - side, rng, aligned=aligned) for n in image.shape[:2])
    return image[top : top + side, left : left + side]


def with_histories(crops: Pixels, recipe: HistoriesRecipe, stride: int) -> dict[str, tuple[int, Pixels]]:
    """The middles of crops, uint8 (N, 3, side, side), after each kind of history in the recipe except clean ones.

    By kind: the expert that is trained on it, and the crops, MARGIN smaller on each side and rounded down to multiples
    of ``stride``. The result is deterministic, and empty if the crops are too small.
    """
    side = (crops.shape[2] - 2 * MARGIN) // stride * stride
    found = {}
    for kind, name in enumerate(KINDS):
        if side > 0 and recipe.shares[kind] and name != "clean":
            changed = [
                apply_history(crop.transpose(1, 2, 0), kind, side, recipe, np.random.default_rng([kind, index]))
                for index, crop in enumerate(crops)
            ]
            found[name] = recipe.experts[kind], np.stack(changed).transpose(0, 3, 1, 2).copy()
    return found


def _develop(region: Pixels, recipe: HistoriesRecipe, rng: np.random.Generator) -> Pixels:
    """Tone and noise, each with its probability."""
    tone, noise = rng.random(2) < (recipe.tone, recipe.noise)
    if not (tone or noise):
        return region
    image = region.astype(np.float32)
    if tone:
        image = change_tone(image, rng)
    if noise:
        image = add_noise(image, rng)
    return _round(image)


def change_tone(image: Floats, rng: np.random.Generator) -> Floats:
    """Another gamma and white balance; uniform noise of one level first, so that no histogram gets gaps."""
    exponent, gains = np.exp(rng.normal(0, 0.15)), np.exp(rng.normal(0, 0.06, 3))
    dithered = image + rng.random(image.shape, np.float32) - np.float32(0.5)
    toned: Floats = (255 * (dithered.clip(0, 255) / 255) ** exponent * gains).astype(np.float32)
    return toned


def add_noise(image: Floats, rng: np.random.Generator) -> Floats:
    """Grain that the three colours share, and weaker noise of each; one half of the grain is correlated in space."""
    height, width, _ = image.shape
    grain = rng.standard_normal((height, width, 1), np.float32)
    if rng.random() < 0.5:
        for axis in (0, 1):  # binomial filter of length 3, of unit gain for white noise
            grain = (np.roll(grain, 1, axis) + 2 * grain + np.roll(grain, -1, axis)) / np.float32(6**0.5)
    shared, own = np.exp(rng.uniform(np.log(0.3), np.log(4))), rng.uniform(0, 1.5)
    noise = shared * grain + own * rng.standard_normal(image.shape, np.float32)
    noisy: Floats = (image + noise).astype(np.float32)
    return noisy


def resize(image: Pixels, side: int, recipe: HistoriesRecipe, rng: np.random.Generator) -> Pixels:
    """0.6 to 2 times the size, but no side below ``side``; every other image is decoded from JPEG first."""
    if rng.random() < 0.5:
        quality = int(rng.integers(recipe.quality[0], recipe.quality[1] + 1))
        image = through_jpeg(image, quality, 2 if rng.random() < 0.7 else 0)
    factor = max(np.exp(rng.uniform(np.log(0.6), np.log(2))), side / min(image.shape[:2]))
    height, width = (max(side, round(n * factor)) for n in image.shape[:2])
    kernel = _draw(SMOOTH if factor > 1 else SHRINKING, rng)
    return np.asarray(Image.fromarray(image).resize((width, height), kernel))


def sharpen(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Unsharp masking."""
    mask = ImageFilter.UnsharpMask(radius=rng.uniform(0.5, 1.5), percent=int(rng.integers(20, 121)), threshold=0)
    return np.asarray(Image.fromarray(image).filter(mask))


def halve_chroma(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Chroma halved and enlarged again, each with one of several filters, with noise on the small chroma."""
    height, width, _ = image.shape
    luma_chroma = image.astype(np.float32) @ TO_YCBCR.T
    shrink, enlarge, sigma = _draw(SHRINKING, rng), _draw(ENLARGING, rng), rng.uniform(0, 1)
    for index in (1, 2):
        chroma = Image.fromarray(np.ascontiguousarray(luma_chroma[..., index]))
        small = np.asarray(chroma.resize((-(-width // 2), -(-height // 2)), shrink))
        small = small + np.float32(sigma) * rng.standard_normal(small.shape, np.float32)
        enlarged = Image.fromarray(small).resize((width + width % 2, height + height % 2), enlarge)
        luma_chroma[..., index] = np.asarray(enlarged)[:height, :width]
    return _round(luma_chroma @ FROM_YCBCR.T)


def through_jpeg(image: Pixels, quality: int, subsampling: int) -> Pixels:
    """Encoded as JPEG and decoded; ``subsampling`` as Pillow numbers it: 0 for 4:4:4, 2 for 4:2:0."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))


def _draw_offset(free: int, rng: np.random.Generator, *, aligned: bool) -> int:
    """Where a crop begins that may begin at 0 to ``free``: on the block grid, or anywhere clear of the border."""
    if aligned:
        return BLOCK * int(rng.integers(free // BLOCK + 1))
    border = min(BORDER, free // 2)
    return int(rng.integers(border, free - border + 1))


def _draw(kernels: tuple[Image.Resampling, ...], rng: np.random.Generator) -> Image.Resampling:
    return kernels[int(rng.integers(len(kernels)))]


def _round(image: NDArray[np.floating]) -> Pixels:
    rounded: Pixels = np.rint(image).clip(0, 255).astype(np.uint8)
    return rounded
