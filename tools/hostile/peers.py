"""What hostile peers send, as plain data, and the transports that send it."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from typing import TYPE_CHECKING, Any

import attrs
import httpcore
import httpx
import trio
from hypothesis import strategies as st

from tools.leaks.canaries import SPELLINGS
from trio_anon_session import TokenInfo, TokenRequestError, TokenUnavailableError
from trio_anon_session.stores import Look, StoredFailure, StoredToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_anon_session import Config

SECRET, TOKEN = "{secret}", "{token}"
"""Placeholders in a text for what it echoes."""

# Each of these has broken a parser somewhere.
UNITS = (
    *("a", " ", "9", "\x00", "\n", "%", "%25", "%4", "&", "&amp;", "&#9", "\\", "\\u00", "\\x4"),
    *("\u0301\u0323", "\u200b", "\u061c", "\ufe0f", "\U000e0061", "\u202e", "\ufdfa", "\uac00"),
    *("://", "@", '"', "'", ",", ";", "=", "[", "{", "(", "<", "bytearray(b'", "=?utf-8?q?"),
    *(SECRET, TOKEN),
)


@attrs.frozen
class Text:
    """A text of repeated units, with an echo of the request in the middle.

    Attributes:
        parts: the units, and how often each is repeated.
        spelling: the encoding of an echo.
    """

    parts: tuple[tuple[str, int], ...]
    spelling: str

    def say(self, secret: str, token: str, size: int) -> str:
        """Return the text, cut to a size."""
        spell = SPELLINGS[self.spelling]
        said = []
        for unit, count in self.parts:
            known = {SECRET: secret, TOKEN: token}.get(unit)
            repeated = unit if known is None else spell(known)
            said.append(repeated * min(count, -(-size // max(1, len(repeated)))))
        return "".join(said)[:size]


# These texts once broke scrubbing, or blocked the event loop.
ATTACKS = (
    (("&#", 1), ("9", 5_000), (";", 1)),
    (("a", 1), ("\u0301\u0323", 30_000)),
    ((SECRET, 1), ("\u0301\u0323", 30_000), (TOKEN, 1)),
    (("a ", 100_000),),
    (("%", 1), (SECRET, 1)),
)
texts = st.builds(Text, st.sampled_from(ATTACKS), st.sampled_from(sorted(SPELLINGS))) | st.builds(
    Text,
    parts=st.lists(
        st.tuples(
            st.sampled_from([SECRET, TOKEN])
            | st.sampled_from(UNITS)
            | st.characters()
            | st.text(max_size=5),
            st.sampled_from([1, 1, 1, 2, 40, 5_000, 100_000]),
        ),
        min_size=1,
        max_size=5,
    ).map(tuple),
    spelling=st.sampled_from(sorted(SPELLINGS)),
)

FIELDS = (
    *("access_token", "token_type", "expires_in", "scope", "error", "error_description"),
    *("message", "code", "request_id", "error_uri", "error_description", "error_description"),
)
HEADERS = (
    *("Content-Type", "BOX-REQUEST-ID", "Retry-After", "Date", "Set-Cookie", "Location"),
    *("WWW-Authenticate", "Content-Encoding", "X-Other"),
)
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": bytes,
    "gzip, cut": lambda raw: gzip.compress(raw)[:-9],
    "gzip, corrupt": lambda raw: gzip.compress(raw)[:12] + b"\xff" * 50,
    "gzip, with more behind": lambda raw: gzip.compress(raw) + raw * 2,
    "gzip, a bomb": lambda raw: gzip.compress(raw + b" " * 2**23),
}
ODD_JSON = (
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b'{"a": [' + b"[]," * 300_000 + b"0]}",
    b'{"expires_in": ' + b"9" * 5_000 + b"}",
    b'{"access_token": "t", "expires_in": 1e999}',
    b"\xff\xfe" + '{"error": "x"}'.encode("utf-16-le"),
    b" " * 2**20 + b"{}",
    b" " * 2**21,
)


@attrs.frozen
class Answer:
    """One answer of a server.

    Attributes:
        status: its status.
        fields: fields of its JSON body, in addition to a token or an error.
        is_grant: whether it grants a token.
        body: a body in place of the JSON body.
        headers: headers; one name may occur more than once.
        packing: the compression of the body; None for no compression.
        framing: how the end of the body is marked.
        piece: bytes of each read.
        waits: whether the network makes a checkpoint at each read.
        then: the bytes after the answer.
    """

    status: int
    fields: tuple[tuple[str, Text | int | list[None] | None], ...]
    is_grant: bool
    body: bytes | None
    headers: tuple[tuple[str, Text], ...]
    packing: str | None
    framing: str
    piece: int
    waits: bool
    then: str

    def raw(self, secret: str, token: str) -> bytes:
        """Return the bytes of the answer."""
        fields: dict[str, object] = {"error": "invalid_scope"}
        if self.is_grant:
            fields = {"access_token": token}
        for name, value in self.fields:
            fields[name] = value.say(secret, token, 60_000) if isinstance(value, Text) else value
        body = json.dumps(fields).encode() if self.body is None else self.body
        lines = [f"HTTP/1.1 {self.status} X"]
        if self.packing is not None:
            body = PACKINGS[self.packing](body)
            lines.append(f"Content-Encoding: {self.packing.partition(',')[0]}")
        for name, text in self.headers:
            said = text.say(secret, token, 8_000)
            lines.append(f"{name}: {''.join(max(c, ' ') for c in said)}")
        if self.framing == "length":
            lines.append(f"Content-Length: {len(body)}")
        elif self.framing == "chunks":
            lines.append("Transfer-Encoding: chunked")
            size = max(self.piece, len(body) // 50_000 + 1)
            chunks = (body[at : at + size] for at in range(0, len(body), size))
            framed = (b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            body = b"".join(framed) + b"0\r\n\r\n"
        head = "\r\n".join([*lines, "", ""]).encode(errors="replace")
        return head + body


answers = st.builds(
    Answer,
    status=st.sampled_from([200, 200, 400, 400, 401, 403, 429, 500, 503, 302, 204]),
    fields=st.lists(
        st.tuples(
            st.sampled_from(FIELDS), texts | st.sampled_from([None, 0, -1, 3600, 2**70, [None]])
        ),
        max_size=4,
    ).map(tuple),
    is_grant=st.booleans(),
    body=st.none() | st.none() | st.sampled_from(ODD_JSON) | st.binary(max_size=50),
    headers=st.lists(st.tuples(st.sampled_from(HEADERS), texts), max_size=3).map(tuple),
    packing=st.none() | st.none() | st.sampled_from(sorted(PACKINGS)),
    framing=st.sampled_from(["length", "chunks", "close"]),
    piece=st.sampled_from([1, 7, 1_000, 65_536]),
    waits=st.booleans(),
    then=st.sampled_from(["close", "hang", "answer", "no end"]),
)


class Network(httpcore.AsyncNetworkBackend):
    """A network on which each connection brings the next answer.

    Args:
        answers: the answers. Answers to the user's own requests echo nothing, because what HTTP
            libraries log about these is not scrubbed.
        secret: the secret that the other answers echo.
        token: the token that they echo.

    Attributes:
        read: number of bytes that were read.
    """

    def __init__(self, answers: tuple[Answer, ...], secret: str, token: str) -> None:
        self._answers = [
            (each, each.raw(secret, token), each.raw("nothing", "no-token")) for each in answers
        ]
        self.read = 0

    async def connect_tcp(self, *args: Any, **settings: Any) -> httpcore.AsyncNetworkStream:
        """Return a connection that brings the next answer."""
        await trio.lowlevel.checkpoint()
        next_one = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return _Connection(self, *next_one)


class _Connection(httpcore.AsyncNetworkStream):
    def __init__(self, network: Network, answer: Answer, raw: bytes, public: bytes) -> None:
        self._network = network
        self._answer = answer
        self._public = public
        # httpcore makes no checkpoint while it reads the headers. So only networks that make
        # checkpoints, like real ones, return small pieces, and only a limited number of them.
        is_small = answer.waits and len(raw) < 20_000
        self._size = answer.piece if is_small else max(answer.piece, 1_000)
        self._left = raw + raw if answer.then == "answer" else raw

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's signature
        if buffer.startswith(b"GET"):
            self._left = self._public
        if self._answer.waits:
            await trio.lowlevel.checkpoint()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        if self._answer.waits:
            await trio.sleep(0.001)
        size = min(max_bytes, self._size)
        piece, self._left = self._left[:size], self._left[size:]
        if not piece and self._answer.then == "hang":
            await trio.sleep_forever()
        if not piece and self._answer.then == "no end":
            piece = b" " * size if self._answer.framing != "chunks" else b"1\r\n \r\n" * 1_000
        self._network.read += len(piece)
        return piece

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def get_extra_info(self, info: str) -> Any:
        return None


class Transport(httpx.AsyncHTTPTransport):
    """The transport of httpx with this network, so that all code of httpcore runs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        # httpx has no public way to set the network.
        self._pool = httpcore.AsyncConnectionPool(network_backend=network)


# Stores

numbers = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0.0, 5.0, 3600.0, math.inf, -math.inf, math.nan, 1e300]),
)


def _record(fields: dict[str, object]) -> Callable[[str, str], str]:
    def make(secret: str, token: str) -> str:
        said = {
            name: value.say(secret, token, 60_000) if isinstance(value, Text) else value
            for name, value in fields.items()
        }
        return json.dumps(said)

    return make


_TEXTS = ("message", "error", "error_description", "request_id", "next_step")
_OTHERS = ("purpose", "owner", "access_token", "lifetime", "extra", "count", "status_code")
_values: st.SearchStrategy[object] = texts | numbers | st.none()
_failures: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {"count": st.integers(0, 5), "status_code": st.sampled_from([None, 503])},
    optional=dict.fromkeys(_TEXTS, texts),
)
records = st.one_of(
    texts.map(lambda text: lambda secret, token: text.say(secret, token, 200_000)),
    st.dictionaries(st.sampled_from(_TEXTS + _OTHERS), _values).map(_record),
    _failures.map(_record),
)


@attrs.frozen
class Lie:
    """The answer of a store to a look.

    Attributes:
        token: the record, the lifetime and the age of a token.
        failure: the record, the fence and the pause of a failure.
        leased_for: remaining seconds of the lease.
        owner: the holder of the lease.
        version: the version of the entry.
    """

    token: tuple[Callable[[str, str], str], Any, Any] | None
    failure: tuple[Callable[[str, str], str], Any, Any] | None
    leased_for: Any
    owner: Text | None
    version: Any

    def look(self, secret: str, token: str) -> object:
        """Return the answer."""
        return Look(
            version=self.version,
            token=None
            if self.token is None
            else StoredToken(self.token[0](secret, token), "mark", *self.token[1:]),
            leased_for=self.leased_for,
            owner=None if self.owner is None else self.owner.say(secret, token, 50_000),
            failure=None
            if self.failure is None
            else StoredFailure(self.failure[0](secret, token), *self.failure[1:]),
        )


durations = numbers | st.sampled_from([0.0, 1.0, 3600.0])
lies = st.builds(
    Lie,
    token=st.none() | st.tuples(records, durations, durations),
    failure=st.none() | st.tuples(records, st.integers(0, 9) | numbers, durations),
    leased_for=durations,
    owner=st.none() | texts,
    version=st.integers(0, 5) | numbers,
)


# Token managers


class Said(str):
    """A subclass of str whose methods are hostile."""

    def __getitem__(self, key: object) -> str:
        raise OSError("not a text")

    isascii = casefold = split = strip = __len__ = __getitem__  # type: ignore[assignment]  # as above


class SpeechlessError(TokenRequestError):
    """An error whose text raises."""

    def __str__(self) -> str:
        raise OSError("no words")


@attrs.frozen
class Outcome:
    """What a token manager returns or raises.

    Attributes:
        kind: what it does.
        text: the text of its result.
        number: the number in its result.
    """

    kind: str
    text: Text
    number: Any

    def make(self, secret: str, token: str, config: Config) -> object:
        """Return the result; the token manager raises it if it is an exception."""
        said = self.text.say(secret, token, 100_000)
        match self.kind:
            case "refusal":
                return TokenRequestError(said, error=said, error_description=said, retryable=False)
            case "odd facts":
                error = TokenUnavailableError(Said(said), request_id=Said(said))
                error.__dict__.update(retry_after=self.number, status_code=said, retryable=said)
                error.add_note(said)
                return error
            case "speechless":
                return SpeechlessError(said)
            case "foreign":
                return RuntimeError(said)
            case "nonsense":
                return said
            case _:
                # No clock can show these times.
                return TokenInfo(token, 3600.0, self.number, self.number, self.number)


outcomes = st.builds(
    Outcome,
    kind=st.sampled_from(["refusal", "odd facts", "speechless", "foreign", "nonsense", "token"]),
    text=texts,
    number=st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0, 1e9]),
)
