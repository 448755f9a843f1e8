"""Traditional Chinese to simplified, by phrase where a character alone is not enough.

Source: OpenCC (Open Chinese Convert) and its dictionaries, configuration `t2s`.
"""

from __future__ import annotations

from ..errors import MissingPackageError

__all__ = ["Simplifier"]


class Simplifier:
    """Turns traditional characters into simplified ones; all else stays."""

    def __init__(self) -> None:
        """Load the dictionaries.

        Raises:
            MissingPackageError: The package `OpenCC` is not installed.
        """
        try:
            from opencc import OpenCC
        except ImportError:
            raise MissingPackageError(
                "traditional characters cannot be simplified: the package OpenCC is missing.",
                way_out="pip install 'lingraft[zh]'",
            ) from None
        self._convert = OpenCC("t2s").convert

    def __call__(self, text: str) -> str:
        """Simplify a text without lone surrogates (`clean` leaves none)."""
        simplified: str = self._convert(text)
        return simplified
