"""What keeps secrets out of sight: scrubbing, fingerprints, no pickles, no locals."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
from typing import TYPE_CHECKING, NoReturn, ParamSpec, Self, TypeVar
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")

HIDDEN = "***"
_EXCERPT_LIMIT = 300
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
# h11 quotes what it cannot read, and what follows in the line with it.
_QUOTED_BYTES = re.compile(r"bytearray\(b.*", re.DOTALL)
# With those that turn the order of letters round, or are not seen: they forge lines, too.
_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+"
)


def basic_credentials(client_id: str, client_secret: str) -> str:
    """Return the credentials of an HTTP Basic header.

    Id and secret are each form-encoded before they are joined (RFC 6749 §2.3.1);
    a space is ``%20``, which every form decoder reads, where ``+`` is not.
    """
    pair = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
    return base64.b64encode(pair.encode()).decode()


def client_secrets(client_id: str, client_secret: str) -> tuple[str, ...]:
    """Return a client's secret, and the credentials in which a server may echo it."""
    raw_pair = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
    return client_secret, basic_credentials(client_id, client_secret), raw_pair


def fingerprint(token: str) -> str:
    """Return a short one-way mark by which people can tell two tokens apart in a log."""
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()[:8]


def _spellings(secret: str) -> Iterable[str]:
    """Yield the forms in which servers and libraries are known to echo a secret."""
    yield from _encodings(secret)
    # RFC 9110 §5.5: who finds controls in a header's value may make spaces of them.
    if (spaced := re.sub(r"[\x00-\x1f\x7f]", " ", secret)) != secret:
        yield from _encodings(spaced)


def _encodings(secret: str) -> Iterable[str]:
    # As a header's value, it comes without the white space at its ends.
    secret = secret.strip() or secret
    # JSON can say half of a surrogate pair, which UTF-8 cannot.
    text = secret.encode(errors="replace").decode()
    for encoded in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), encoded)
    yield json.dumps(secret)[1:-1]
    yield repr(text.encode())[2:-1]
    for readable in (
        secret,
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
    ):
        yield readable
        # What httpx makes of a header's bytes where another header is no UTF-8.
        yield readable.encode(errors="replace").decode("latin-1")


class Secrets:
    """Texts that must not be seen.

    In a thing whose repr shows none of them: a traceback can show the locals of its frames.
    """

    __slots__ = ("_texts",)

    def __init__(self, *texts: str) -> None:
        self._texts = texts

    def __repr__(self) -> str:
        return f"<{len(self._texts)} secrets>"

    def and_also(self, text: str) -> Secrets:
        """Return these and one more."""
        return Secrets(*self._texts, text)

    def scrub(self, text: str, *, limit: int | None = _EXCERPT_LIMIT) -> str:
        """Return text from outside made fit to show, as `scrub` does."""
        return scrub(text, self._texts, limit=limit)


def scrub(text: str, secrets: Iterable[str], *, limit: int | None = _EXCERPT_LIMIT) -> str:
    """Return text from outside made fit to show: no secret, no control characters, not long.

    Args:
        text: what a server or a library said.
        secrets: what must not be seen in it, each in plain form.
        limit: how many characters of it are kept; None keeps them all.
    """
    spellings = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
    # The longest first: a spelling may be part of another.
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, HIDDEN)
    text = _QUOTED_BYTES.sub(HIDDEN, text)
    text = _USERINFO.sub(f"{HIDDEN}@", text)
    text = _CONTROLS.sub(" ", text).strip()
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def without_locals(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function whose errors show none of its frames.

    For what is given secrets, and may refuse them: those who report errors show the locals
    of all frames.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            problem = error.with_traceback(None)
        del args, kwargs
        problem.__context__ = None
        try:
            raise problem
        finally:
            # A frame and an exception that hold each other are left to the collector.
            del problem

    return call


def with_quiet_init(cls: type[T]) -> type[T]:
    """Make a class whose constructor is `without_locals`."""
    # Not an assignment: that, type checkers forbid.
    setattr(cls, "__init__", without_locals(cls.__init__))  # noqa: B010
    return cls


class Unpicklable:
    """Refuse to pickle: a pickle would write a token or a secret down."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled: it would write a secret down. "
            "Make a new one from its settings instead."
        )


class UnpicklableValue(Unpicklable):
    """An unpicklable value that never changes, and so is its own copy."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self
