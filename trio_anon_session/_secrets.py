"""What keeps secrets out of sight: scrubbing, fingerprints, no pickles, no locals.

How scrubbing works
    Text from outside is not decoded to see what is in it: there are too many encodings, and
    some take long to undo. `Secrets.quote` keeps only words that are plainly harmless, and
    hides all others. `Secrets.hide` is for sentences of our own, and hides the words in which
    a known secret can be read. Both look at a bounded number of characters and take any text.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
# The decorators return the type that they were given. A spelled-out type would differ from it:
# type checkers do not agree on what an async function returns.
FunctionT = TypeVar("FunctionT", bound="Callable[..., Any]")

HIDDEN = "***"
_EXCERPT_LIMIT = 300
_READ_LIMIT = 1_200
"""Characters of one text that are looked at. The rest is left out."""
_KNOWN_LIMIT = 512
"""Characters of one secret that are compared. A longer one is a token, which has no spaces."""
_RUN = 8
"""Characters of a secret, in a row, that give it away."""

# RFC 6749 §5.2 allows printable ASCII in an error. None of the characters with which text is
# encoded is here (% \ & = +), and a word that is long, or has digits and is not short, may be
# a token that is not known yet.
_LETTERS = r"A-Za-z.,:;!?'\"()\[\]/_-"
_HARMLESS = rf"[{_LETTERS}]{{1,40}}|[0-9{_LETTERS}]{{1,16}}|https?://[A-Za-z0-9.:-]{{1,80}}"
# Codes, media types, and the names of requests, which are long and have digits.
_NAME = r"[A-Za-z0-9._:/+-]{1,80}"
_USERINFO = r"(?<=://)[^/?#\s]*@"

# What encodings and people change: these are not compared. Base64 has two alphabets, which
# differ in the first four.
_NOT_COMPARED = dict.fromkeys([*map(ord, "+-/_=\\\"'"), *range(0x21), 0x7F])
# Letters that are not seen: fillers of Hangul.
_NOT_COMPARED |= dict.fromkeys([0x115F, 0x1160, 0x3164, 0xFFA0])


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
    return (
        client_secret,
        basic_credentials(client_id, client_secret),
        _base64(f"{client_id}:{client_secret}"),
        _base64(f"{quote_plus(client_id)}:{quote_plus(client_secret)}"),
    )


def fingerprint(token: str) -> str:
    """Return a short one-way mark by which people can tell two tokens apart in a log."""
    return digest(token)[:8]


def digest(token: str) -> str:
    """Return a one-way mark of a token that no other token has."""
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()


def _compared(text: str) -> str:
    """Return what of a text is compared: no case, no accents, nothing that is not seen."""
    if not text.isascii():
        # One character at a time: to put a long run of accents in order takes its square.
        parts = (part for each in text for part in unicodedata.normalize("NFD", each))
        text = "".join(part for part in parts if unicodedata.category(part)[0] not in "CMZ")
    return text.casefold().translate(_NOT_COMPARED)


def without_locals(function: FunctionT) -> FunctionT:
    """Make a function whose errors show none of its frames.

    For what is given secrets, and may refuse them: those who report errors show the locals
    of all frames.
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
            # A frame and an exception that hold each other are left to the collector.
            del problem

    return cast("FunctionT", call)


def async_without_locals(function: FunctionT) -> FunctionT:
    """Make an async function whose errors show none of its frames, as `without_locals` does.

    That holds for cancellations and interrupts too.
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
            # A frame and an exception that hold each other are left to the collector.
            del problem

    return cast("FunctionT", call)


def with_quiet_init(cls: type[T]) -> type[T]:
    """Make a class whose constructor is `without_locals`."""
    # Not an assignment: that, type checkers forbid.
    setattr(cls, "__init__", without_locals(cls.__init__))  # noqa: B010
    return cls


class Secrets:
    """Texts that must not be seen.

    In a thing whose repr shows none of them: a traceback can show the locals of its frames.
    """

    __slots__ = ("_known", "_long")

    @without_locals
    def __init__(self, *texts: str) -> None:
        self._know(frozenset(_compared(_plain(text)[:_KNOWN_LIMIT]) for text in texts))

    def _know(self, known: frozenset[str]) -> None:
        self._known = known - {""}
        # In one text, to look for a run of characters in all of them.
        self._long = "\n".join(one for one in known if len(one) >= _RUN)

    def __repr__(self) -> str:
        return f"<{len(self._known)} secrets>"

    def and_also(self, *others: Secrets) -> Secrets:
        """Return these and others."""
        more = Secrets()
        more._know(self._known.union(*(other._known for other in others)))
        return more

    @without_locals
    def quote(self, text: str, *, limit: int = _EXCERPT_LIMIT) -> str:
        """Return text from outside made fit to show: its harmless words, and not many.

        Args:
            text: what a server, a library or a program of somebody else's said.
            limit: how many characters are kept.
        """
        words = _words(text)
        shown = [word if re.fullmatch(_HARMLESS, word) else HIDDEN for word in words]
        return _shortened(self._without_known(words, shown), limit)

    @without_locals
    def name(self, text: str) -> str:
        """Return a code, a media type or an id from outside, hidden if it is not plainly one."""
        text = _plain(text).strip()
        return self._without_known([text], [text]) if re.fullmatch(_NAME, text) else HIDDEN

    @without_locals
    def hide(self, text: str, *, limit: int = _READ_LIMIT) -> str:
        """Return a sentence of our own without the words in which one of these can be read.

        Args:
            text: the sentence.
            limit: how many characters are kept.
        """
        words = _words(re.sub(_USERINFO, f"{HIDDEN}@", _plain(text)))
        return _shortened(self._without_known(words, list(words)), limit)

    def _without_known(self, words: list[str], shown: list[str]) -> str:
        """Return one text of what is shown of some words, without parts of secrets."""
        compared = [_compared(word) for word in words]
        ends = list(accumulate(map(len, compared)))
        for start, end in self._found_in("".join(compared)):
            for nth in range(bisect_right(ends, start), bisect_right(ends, end - 1) + 1):
                shown[nth] = HIDDEN
        # Several hidden ones in a row say no more than one.
        pairs = zip([None, *shown], shown, strict=False)
        return " ".join(word for before, word in pairs if not before == word == HIDDEN)

    def _found_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where in a text a secret stands, or ``_RUN`` characters of one."""
        for start in range(len(text) - _RUN + 1):
            if text[start : start + _RUN] in self._long:
                yield start, start + _RUN
        for known in self._known:
            found = text.find(known) if len(known) < _RUN else -1
            while found >= 0:
                yield found, found + len(known)
                found = text.find(known, found + 1)


def _plain(text: str) -> str:
    """Return a text as a plain `str`: a subclass of somebody else's may do anything."""
    return str.__str__(text)


def _words(text: str) -> list[str]:
    """Return the words at the beginning of a text; whatever is not seen separates them."""
    text = _plain(text)
    words = "".join(c if c.isprintable() else " " for c in text[:_READ_LIMIT]).split()
    if len(text) > _READ_LIMIT:
        # The last one may be half of a word.
        words[-1:] = ["…"]
    return words


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Unpicklable:
    """Refuse to pickle: a pickle would write a token or a secret down."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle a {type(self).__name__}: the pickle would contain a secret. "
            "Create a new one from its settings instead."
        )


class UnpicklableValue(Unpicklable):
    """An unpicklable value that never changes, and so is its own copy."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self
