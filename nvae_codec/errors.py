"""The errors that this library raises on purpose: each carries one plain sentence for its user.

NvaeCodecError
├── DamagedFileError        the bytes of a file are not what was written
├── UnsupportedImageError   a sound image that this codec does not take, or not by that method
├── UnknownModelError       the model that a file or a name asks for is not installed
├── ModelFileError          a model file that cannot be used
├── NumericsError           this machine computes something else than the model's exact network
└── RecipeError             a recipe with an unknown key or an impossible value
"""


class NvaeCodecError(Exception):
    """Anything that went wrong for a reason that its user can understand; the parent of all others."""


class DamagedFileError(NvaeCodecError):
    """A file that is truncated, altered, not of the kind it claims to be, or of a newer version."""


class UnsupportedImageError(NvaeCodecError):
    """An image that cannot be kept without loss, or that the method asked for does not take."""


class UnknownModelError(NvaeCodecError):
    """No model of that name, path or identity is installed; the message names those that are."""


class ModelFileError(NvaeCodecError):
    """A model file that is damaged, of another version, or beyond the bounds that were proved for it."""


class NumericsError(NvaeCodecError):
    """This machine, device or build of torch does not compute the exact network's integers."""


class RecipeError(NvaeCodecError):
    """A recipe with an unknown key, a missing one or an impossible value; the message says which and why."""
