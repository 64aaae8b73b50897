"""The challenges of a ``WWW-Authenticate`` header (RFC 9110 §11.2 to §11.6).

The parser accepts any text and never raises. It reads each character once, and at most
`HEADER_LIMIT` of them, because the header comes from a server that may be hostile.

It also accepts parameters and challenges without a comma between them, because some servers send
such headers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEADER_LIMIT = 8 * 1024
"""Characters; the parser ignores the rest of a longer header."""

# The alternatives begin with different characters, and all repetitions are possessive. So the regex
# reads each character once, and each character is in one lexeme.
_LEXEME = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[ \t\r\n]++|[^ \t\r\n",=]++|[,=]', re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Challenge(NamedTuple):
    """One challenge: a scheme, and either a token68 or parameters.

    Attributes:
        scheme: the scheme in lower case.
        token68: the value of a scheme such as Negotiate, or None.
        params: the names, in lower case, and the values, in the order of the header.
    """

    scheme: str
    token68: str | None
    params: list[tuple[str, str]]


def means_invalid_token(header: str) -> bool | None:
    """Return what the Bearer challenges of a header say about the token (RFC 6750 §3.1).

    Returns:
        True if a challenge has the error ``invalid_token``. False if there are only other errors,
        which are about permissions. None if no Bearer challenge has an error.
    """
    errors = [
        value
        for challenge in parse_challenges(header)
        if challenge.scheme == "bearer"
        for name, value in challenge.params
        if name == "error"
    ]
    return "invalid_token" in errors if errors else None


def parse_challenges(header: str, limit: int = HEADER_LIMIT) -> list[Challenge]:
    """Return the challenges of a header, or of several headers joined with commas.

    Args:
        header: any text.
        limit: how many characters to read.
    """
    lexemes = [
        found[0] for found in _LEXEME.finditer(header[:limit]) if found[0][0] not in " \t\r\n"
    ]
    if len(header) > limit and lexemes:
        # The limit may have cut the last lexeme in two.
        lexemes.pop()
    count = len(lexemes)
    # Append two commas, so that every lexeme has two lexemes after it.
    lexemes += [",", ","]
    challenges: list[Challenge] = []
    is_after_scheme = False
    at = 0
    while at < count:
        word, following, value = lexemes[at : at + 3]
        at += 1
        was_after_scheme, is_after_scheme = is_after_scheme, False
        if word in (",", "=") or word[0] == '"':
            continue
        if following == "=" and value not in (",", "="):
            at += 2
            if challenges:
                challenges[-1].params.append((word.lower(), _text_of(value)))
        elif following == "=" or (was_after_scheme and following == ","):
            start = at
            while lexemes[at] == "=":
                at += 1
            if was_after_scheme:
                challenges[-1] = challenges[-1]._replace(token68=word + "=" * (at - start))
        else:
            challenges.append(Challenge(word.lower(), None, []))
            is_after_scheme = True
    return challenges


def _text_of(value: str) -> str:
    quoted = _QUOTED.match(value)
    return _ESCAPED.sub(r"\1", quoted[1]) if quoted is not None else value
