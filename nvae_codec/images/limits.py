"""How large a picture may be: Pillow's limit against decompression bombs, here an error and not a warning."""

from PIL import Image

from nvae_codec.errors import UnsupportedImageError


def check_size(width: int, height: int) -> None:
    """Raise UnsupportedImageError for more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (None there: no limit)."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise UnsupportedImageError(f"{width}x{height} is more than the limit of {limit:,} pixels")
