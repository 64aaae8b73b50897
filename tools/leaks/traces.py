"""Traces of secrets that are created during a life: in plain text, base64 and percent-encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .canaries import in_base64

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = 16
"""Length in characters. Words of this package and of servers share no such piece with a secret."""


class Traces:
    """All pieces of the secrets, in several encodings."""

    def __init__(self) -> None:
        self._pieces: set[str] = set()

    def add(self, *secrets: str) -> None:
        """Add secrets."""
        for secret in secrets:
            forms = [secret, *in_base64(secret), secret.encode().hex()]
            forms.append("".join(f"%{byte:02x}" for byte in secret.encode()))
            for form in forms:
                self._pieces.update(_pieces(form))

    def found_in(self, text: str) -> list[str]:
        """Return the pieces of secrets in a text."""
        return [piece for piece in _pieces(text) if piece in self._pieces]


def _pieces(text: str) -> Iterator[str]:
    text = text.lower()
    return (text[start : start + LENGTH] for start in range(len(text) - LENGTH + 1))
