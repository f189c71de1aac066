"""Where the bits go: float ELBO, integer-model ELBO, file, and the overhead between them. Imports torch lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nvae_codec.evaluation.elbo import ImageElbo, float_elbo, integer_elbo

__all__ = ["ImageElbo", "float_elbo", "integer_elbo"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"nvae_codec.evaluation has no {name}")
    from nvae_codec.evaluation import elbo

    return getattr(elbo, name)
