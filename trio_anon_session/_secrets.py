"""What keeps secrets out of sight: scrubbing, fingerprints, no pickles, no locals."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypeVar
from urllib.parse import quote, quote_plus, unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import ModuleType

P = ParamSpec("P")
T = TypeVar("T")

HIDDEN = "***"
_EXCERPT_LIMIT = 300
# Patterns are compiled where they are used first, here and in other modules: `re` keeps them,
# and an import of this package is 1 % slower with them.
_USERINFO = r"(?<=://)[^/?#\s]*@"
# h11 quotes what it cannot read, and what follows in the line with it.
_QUOTED_BYTES = r"(?s)bytearray\(b.*"
# With those that turn the order of letters round, or are not seen: they forge lines, too.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
_CONTROLS = f"[{_UNSEEN}]+"
_BLANKS = rf"[\s{_UNSEEN}\ufffd]+"
_HEX = "[0-9a-fA-F]"
_ESCAPE = (
    rf"(?s)\\(?:u({_HEX}{{4}})|u\{{({_HEX}{{1,6}})\}}|U({_HEX}{{8}})"
    rf"|x({_HEX}{{2}})|([0-7]{{3}})|(.))"
)
_READ_LIMIT = 20_000
"""Characters; to look through more would keep the program waiting."""


def basic_credentials(client_id: str, client_secret: str) -> str:
    """Return the credentials of an HTTP Basic header.

    Id and secret are each form-encoded before they are joined (RFC 6749 §2.3.1);
    a space is ``%20``, which every form decoder reads, where ``+`` is not.
    """
    return _base64(f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def client_secrets(client_id: str, client_secret: str) -> tuple[str, ...]:
    """Return a client's secret, and the credentials in which a server may echo it."""
    pairs = [
        basic_credentials(client_id, client_secret),
        _base64(f"{client_id}:{client_secret}"),
        _base64(f"{quote_plus(client_id)}:{quote_plus(client_secret)}"),
    ]
    return client_secret, *pairs, *(pair.rstrip("=") for pair in pairs)


def fingerprint(token: str) -> str:
    """Return a short one-way mark by which people can tell two tokens apart in a log."""
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()[:8]


def _spellings(secret: str) -> Iterable[str]:
    """Yield the forms in which a secret is echoed most often."""
    # JSON can say half of a surrogate pair, which UTF-8 cannot.
    text = secret.encode(errors="replace").decode()
    for encoded in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), encoded)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield _html().escape(secret)
    yield secret


def _html() -> ModuleType:
    # Its table of names makes an import of this package 1.3 % slower.
    import html

    return html


def _unescaped_html(text: str) -> str:
    unescaped: str = _html().unescape(text)
    return unescaped


def _unescaped(text: str) -> str:
    """Undo the backslashes of JSON, Python, PHP, Go and C."""

    def character(match: re.Match[str]) -> str:
        *hexadecimal, octal, other = match.groups()
        for digits in filter(None, hexadecimal):
            return chr(min(int(digits, 16), sys.maxunicode))
        if octal is not None:
            return chr(int(octal, 8))
        # A letter stands for a control, which is nothing here.
        return "" if other in "abefnrtv0" else other

    # Halves of a surrogate pair are put together.
    halves = re.sub(_ESCAPE, character, text)
    return halves.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_as_latin_1(text: str) -> str:
    """Undo what httpx makes of a header's bytes where another header is no UTF-8."""
    return text.encode("latin-1", "replace").decode(errors="replace")


def _read_as_base64url(text: str) -> str:
    """Undo the other alphabet of base64."""
    return text.translate({ord("-"): "+", ord("_"): "/"})


_READINGS = (
    *(unquote, unquote_plus, _unescaped_html),
    *(_unescaped, _read_as_latin_1, _read_as_base64url),
)


def _bare(text: str) -> str:
    """Return a text without white space and controls, which may become others on the way."""
    return re.sub(_BLANKS, "", unicodedata.normalize("NFC", text))


def _found_in(text: str, secrets: Iterable[str]) -> list[str]:
    """Return those secrets that somebody could read in a text, encoded twice as well."""
    texts = {text}
    for _ in range(2):
        texts |= {read(one) for one in texts for read in _READINGS}
    bare_texts = {_bare(one) for one in texts}
    found = []
    for secret in secrets:
        bare = _bare(secret)
        if bare and any(bare in one for one in bare_texts):
            found.append(secret)
    return found


class Secrets:
    """Texts that must not be seen.

    In a thing whose repr shows none of them: a traceback can show the locals of its frames.
    """

    __slots__ = ("_texts",)

    def __init__(self, *texts: str) -> None:
        self._texts = texts
        # Before anything is sent: once there are no files left to open, it would be too late.
        _html()

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
    is_cut = len(text) > _READ_LIMIT
    text = text[:_READ_LIMIT]
    found = _found_in(text, secrets)
    if is_cut and (found or limit is None):
        # There may be a half of one at the end.
        return HIDDEN
    spellings = {spelling for secret in found for spelling in _spellings(secret)}
    # The longest first: a spelling may be part of another.
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, HIDDEN)
    if _found_in(text, found):
        # In a form that is not often met: what stands around it is not worth the risk.
        return HIDDEN
    text = re.sub(_QUOTED_BYTES, HIDDEN, text)
    text = re.sub(_USERINFO, f"{HIDDEN}@", text)
    text = re.sub(_CONTROLS, " ", text).strip()
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
        except BaseException as error:  # noqa: ASYNC103  # raised below
            problem = error.with_traceback(None)
        del args, kwargs
        problem.__context__ = None
        try:
            raise problem
        finally:
            # A frame and an exception that hold each other are left to the collector.
            del problem

    return call


def async_without_locals(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make an async function whose errors show none of its frames, as `without_locals` does.

    That holds for cancellations and interrupts too.
    """

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except BaseException as error:  # noqa: ASYNC103  # raised below
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
