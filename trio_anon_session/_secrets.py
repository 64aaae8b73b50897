"""Tools that keep secrets out of texts, pickles and the locals of tracebacks.

How scrubbing works
    Text from outside is not decoded to find secrets in it: there are too many encodings, and
    decoding some of them is slow. Instead, `Secrets.quote` keeps only words that are clearly
    harmless, and hides all others. `Secrets.hide` is for texts of this package. It hides the words
    that contain a known secret. Both accept any text, and read a limited number of characters.
    `Secrets.name` is for one short word, so it also looks for secrets in base64.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
# The decorators return the same type. A more exact type would not work, because type checkers
# disagree on the type of an async function.
FunctionT = TypeVar("FunctionT", bound="Callable[..., Any]")

HIDDEN = "***"
_EXCERPT_LIMIT = 300
_READ_LIMIT = 1_200
"""The most characters of one text that are read. The rest is omitted."""
_KNOWN_LIMIT = 512
"""The most characters of one secret that are compared. A longer secret is a token: one word."""
_RUN = 8
"""A text is hidden if it contains this many consecutive characters of a secret."""
_SAMPLE = 5
"""Characters. Random texts seldom have so many in common, and few samples cover a text."""

# RFC 6749 §5.2 allows printable ASCII in an error. The characters that encodings use (% \ & = +)
# are not harmless. Neither are long words, and shorter words with digits, because they may be a new
# token.
_LETTERS = r"A-Za-z.,:;!?'\"()\[\]/_-"
_HARMLESS = rf"[{_LETTERS}]{{1,40}}|[0-9{_LETTERS}]{{1,16}}|https?://[A-Za-z0-9.:-]{{1,80}}"
# Error codes, media types and request ids. A request id is long and has digits.
_NAME = r"[A-Za-z0-9._:/+-]{1,80}"
_USERINFO = r"(?<=://)[^/?#\s]*@"

# Characters that are not compared, because encodings and people change them. The two alphabets of
# Base64 differ in the first four.
_NOT_COMPARED = dict.fromkeys([*map(ord, "+-/_=\\\"'"), *range(0x21), 0x7F])
# Invisible letters: the fillers of Hangul.
_NOT_COMPARED |= dict.fromkeys([0x115F, 0x1160, 0x3164, 0xFFA0])


def basic_credentials(client_id: str, client_secret: str) -> str:
    """Return the credentials of an HTTP Basic header.

    Id and secret are form-encoded before they are joined (RFC 6749 §2.3.1). A space becomes
    ``%20``, because not every decoder accepts ``+``.
    """
    return _base64(f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def client_secrets(client_id: str, client_secret: str) -> tuple[str, ...]:
    """Return a client's secret, its base64 text, and the Basic credentials that contain it."""
    return (
        client_secret,
        _base64(client_secret),
        basic_credentials(client_id, client_secret),
        _base64(f"{client_id}:{client_secret}"),
        _base64(f"{quote_plus(client_id)}:{quote_plus(client_secret)}"),
    )


def fingerprint(token: str) -> str:
    """Return a short one-way hash of a token, to distinguish tokens in a log."""
    return digest(token)[:8]


def digest(token: str) -> str:
    """Return a one-way hash that identifies a token."""
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()


def _compared(text: str) -> str:
    """Return a text for comparison: without case, accents and invisible characters."""
    if not text.isascii():
        # One character at a time, because sorting a long run of accents takes quadratic time.
        parts = (part for each in text for part in unicodedata.normalize("NFD", each))
        text = "".join(part for part in parts if unicodedata.category(part)[0] not in "CMZ")
    return text.casefold().translate(_NOT_COMPARED)


def without_locals(function: FunctionT) -> FunctionT:
    """Remove the frames of a function from the tracebacks of its errors.

    Use it for a function that gets secrets as arguments and may raise. Tools that report errors
    show the locals of all frames.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: ASYNC103  # raised below
            problem = error.with_traceback(None)
        del args, kwargs
        problem.__context__ = None
        try:
            raise problem
        finally:
            # Otherwise, frame and exception refer to each other until garbage collection.
            del problem

    return cast("FunctionT", call)


def async_without_locals(function: FunctionT) -> FunctionT:
    """Remove the frames of an async function from its tracebacks, like `without_locals`.

    This includes the tracebacks of cancellations and interrupts.
    """

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except BaseException as error:  # noqa: ASYNC103  # raised below
            problem = error.with_traceback(None)
        del args, kwargs
        problem.__context__ = None
        try:
            raise problem
        finally:
            # Otherwise, frame and exception refer to each other until garbage collection.
            del problem

    return cast("FunctionT", call)


def with_quiet_init(cls: type[T]) -> type[T]:
    """Decorate the constructor of a class with `without_locals`."""
    # setattr, because type checkers do not allow the assignment.
    setattr(cls, "__init__", without_locals(cls.__init__))  # noqa: B010
    return cls


class Secrets:
    """Texts to hide.

    The repr of this class contains none of them, because a traceback can show it as a local.
    """

    __slots__ = ("_known", "_long")

    @without_locals
    def __init__(self, *texts: str) -> None:
        self._know(frozenset(_compared(_plain(text)[:_KNOWN_LIMIT]) for text in texts))

    def _know(self, known: frozenset[str]) -> None:
        self._known = known - {""}
        # Joined, so that one search finds a run of characters in all of them.
        self._long = "\n".join(one for one in known if len(one) >= _RUN)

    def __repr__(self) -> str:
        return f"<{len(self._known)} secrets>"

    def and_also(self, *others: Secrets) -> Secrets:
        """Return these secrets together with others."""
        more = Secrets()
        more._know(self._known.union(*(other._known for other in others)))
        return more

    @without_locals
    def quote(self, text: str, *, limit: int = _EXCERPT_LIMIT) -> str:
        """Return the harmless words of a text from outside, cut to the limit.

        Args:
            text: a text of a server, a library or a foreign program.
            limit: how many characters are kept.
        """
        words = _words(text)
        shown = [word if re.fullmatch(_HARMLESS, word) else HIDDEN for word in words]
        return _shortened(self._without_known(words, shown), limit)

    @without_locals
    def name(self, text: str) -> str:
        """Return an error code, a media type or an id. Hide any other text."""
        text = _plain(text).strip()
        if not re.fullmatch(_NAME, text):
            return HIDDEN
        # Only for long secrets: a short one can occur by chance in what is no base64.
        is_hidden = any(
            end - start >= _RUN
            for form in _decodings(text)
            for start, end in self._found_in(_compared(form))
        )
        return HIDDEN if is_hidden else self._without_known([text], [text])

    @without_locals
    def hide(self, text: str, *, limit: int = _READ_LIMIT) -> str:
        """Return a text of this package without the words that contain a secret.

        Args:
            text: the text.
            limit: how many characters are kept.
        """
        words = _words(re.sub(_USERINFO, f"{HIDDEN}@", _plain(text)))
        return _shortened(self._without_known(words, list(words)), limit)

    def _without_known(self, words: list[str], shown: list[str]) -> str:
        """Return the shown words as one text, without parts of secrets."""
        compared = [_compared(word) for word in words]
        ends = list(accumulate(map(len, compared)))
        for start, end in self._found_in("".join(compared)):
            for nth in range(bisect_right(ends, start), bisect_right(ends, end - 1) + 1):
                shown[nth] = HIDDEN
        # Consecutive hidden words become one.
        pairs = zip([None, *shown], shown, strict=False)
        return " ".join(word for before, word in pairs if not before == word == HIDDEN)

    def _found_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where a text contains a secret, or ``_RUN`` characters of one."""
        # A run contains a sample, wherever it begins. So most of the searches, which take long in
        # long secrets, are for samples.
        for at in range(0, len(text) - _SAMPLE + 1, _RUN - _SAMPLE + 1):
            if text[at : at + _SAMPLE] in self._long:
                for start in range(max(0, at - _RUN + _SAMPLE), min(at, len(text) - _RUN) + 1):
                    if text[start : start + _RUN] in self._long:
                        yield start, start + _RUN
        for known in self._known:
            found = text.find(known) if len(known) < _RUN else -1
            while found >= 0:
                yield found, found + len(known)
                found = text.find(known, found + 1)


def _plain(text: str) -> str:
    """Return a text as a plain `str`, because a foreign subclass may override any method."""
    return str.__str__(text)


def _words(text: str) -> list[str]:
    """Return the words at the beginning of a text. Invisible characters separate them, too."""
    text = _plain(text)
    words = "".join(c if c.isprintable() else " " for c in text[:_READ_LIMIT]).split()
    if len(text) > _READ_LIMIT:
        # The last word may be cut.
        words[-1:] = ["…"]
    return words


def _decodings(text: str, depth: int = 2) -> Iterator[str]:
    """Yield what a short text is if a part of it is base64, once or twice; and the text."""
    yield text
    encoded = re.sub(r"[^A-Za-z0-9+/]", "", text.replace("-", "+").replace("_", "/"))
    for start in range(4) if depth else ():
        part = encoded[start:]
        # A single character at the end of base64 is no byte.
        part = part[: len(part) - (len(part) % 4 == 1)]
        decoded = base64.b64decode(part + "=" * (-len(part) % 4)).decode("latin-1")
        yield from _decodings(decoded, depth - 1)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Hidden(Generic[T]):
    """A secret value. It has no repr, because debuggers show the attributes of objects."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class Unpicklable:
    """A base class of objects that cannot be pickled, because they contain a token or secret."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle a {type(self).__name__}: the pickle would contain a secret. "
            "Create a new one from its settings instead."
        )


class UnpicklableValue(Unpicklable):
    """A base class of unpicklable and immutable values. A copy is the same object."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self
