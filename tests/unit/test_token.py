"""Tests of tokens: states, boundaries, and reading an answer."""

from __future__ import annotations

import codecs
import math
import re
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_anon_session import Config, ConfigError, TokenInfo, TokenRequestOptions, TokenState
from trio_anon_session._token import (
    LIFETIME_LIMIT,
    MalformedAnswerError,
    parse_lifetime,
    parse_object,
    read_token_answer,
    state_at,
)

TOKEN = "T9jS1qZ0aBcDeFgHiJkLmNoPqRsTuVwX"
CONFIG = Config(client_id="id", client_secret="secret")


def config(**changes: Any) -> Config:
    """Return the config with these changes."""
    return CONFIG.replace(**changes)


def token(
    sent_at: float = 100.0, lifetime: float = 1000.0, stale_at: float = 600.0, end: float = 900.0
) -> TokenInfo:
    """Return a token with these times."""
    return TokenInfo(TOKEN, lifetime, sent_at, stale_at, end)


class TestState:
    @pytest.mark.parametrize(
        ("now", "state"),
        [
            (-math.inf, TokenState.FRESH),
            (math.nextafter(600.0, 0), TokenState.FRESH),
            (600.0, TokenState.STALE),
            (math.nextafter(900.0, 0), TokenState.STALE),
            (900.0, TokenState.EXPIRED),
            # The server would still accept this token.
            (1099.0, TokenState.EXPIRED),
            (math.inf, TokenState.EXPIRED),
        ],
    )
    def test_boundaries(self, now: float, state: TokenState) -> None:
        """A boundary belongs to the later state; without a token, the state is EMPTY."""
        assert state_at(token(), now) is state
        assert state_at(None, now) is TokenState.EMPTY

    def test_no_stale_window(self) -> None:
        """If both boundaries are equal, FRESH becomes EXPIRED."""
        one = token(stale_at=900.0)
        assert state_at(one, math.nextafter(900.0, 0)) is TokenState.FRESH
        assert state_at(one, 900.0) is TokenState.EXPIRED

    def test_names(self) -> None:
        """There are four states, with lower-case values."""
        assert [state.name for state in TokenState] == ["EMPTY", "FRESH", "STALE", "EXPIRED"]
        assert [state.value for state in TokenState] == ["empty", "fresh", "stale", "expired"]


lifetimes = st.floats(min_value=1e-3, max_value=LIFETIME_LIMIT) | st.integers(1, 5000).map(float)
buffers = st.floats(min_value=0, max_value=1e12) | st.sampled_from([0.0, 30.0, 600.0])
times = st.floats(min_value=0, max_value=1e7)


class TestFromAnswer:
    @pytest.mark.parametrize(
        ("lifetime", "stale_buffer", "expired_buffer", "stale_at", "expires_at"),
        [
            (3600.0, 600.0, 30.0, 3000.0, 3570.0),
            (3600.0, 0.0, 0.0, 3600.0, 3600.0),
            # This token has no stale window.
            (3600.0, 0.0, 30.0, 3570.0, 3570.0),
            # Nor does one that lives four times as long as a stale_buffer below expired_buffer.
            # A shorter one has a stale window, because its expired buffer is limited.
            (3600.0, 20.0, 30.0, 3570.0, 3570.0),
            (80.0, 20.0, 30.0, 60.0, 60.0),
            (76.0, 20.0, 30.0, 56.0, 57.0),
            # The buffers are limited to a half and a quarter of the lifetime.
            (1200.0, 600.0, 30.0, 600.0, 1170.0),
            (120.0, 600.0, 30.0, 60.0, 90.0),
            (100.0, 600.0, 30.0, 50.0, 75.0),
            (1.0, 600.0, 30.0, 0.5, 0.75),
            (100.0, 10.0, 1e9, 75.0, 75.0),
            (100.0, 1e9, 0.0, 50.0, 100.0),
        ],
    )
    def test_boundaries(
        self,
        lifetime: float,
        stale_buffer: float,
        expired_buffer: float,
        stale_at: float,
        expires_at: float,
    ) -> None:
        """Each boundary is a buffer, limited by the lifetime, before the end of the lifetime."""
        settings = config(stale_buffer=stale_buffer, expired_buffer=expired_buffer)

        one = TokenInfo.from_answer(TOKEN, lifetime, 4096.0, settings)

        assert (one.sent_at, one.lifetime) == (4096.0, lifetime)
        assert (one.stale_at - 4096.0, one.expires_at - 4096.0) == (stale_at, expires_at)

    @given(lifetimes, times, buffers, buffers, buffers)
    @example(1e-3, 1e7, 600.0, 30.0, 1e12)
    def test_order(
        self, lifetime: float, sent_at: float, stale: float, expired: float, jitter: float
    ) -> None:
        """With any settings, a token is FRESH at first, and its boundaries are in order."""
        settings = config(stale_buffer=stale, expired_buffer=expired, refresh_jitter=jitter)

        one = TokenInfo.from_answer(TOKEN, lifetime, sent_at, settings)

        assert sent_at < one.stale_at <= one.expires_at <= sent_at + lifetime
        # The token is FRESH for at least half of its lifetime, and usable for at least three
        # quarters.
        slack = 1e-5
        assert one.stale_at - sent_at >= lifetime / 2 - slack
        assert one.expires_at - sent_at >= lifetime * 3 / 4 - slack

    @pytest.mark.parametrize(
        ("settings", "most"),
        [
            ({"refresh_jitter": 100.0}, 100.0),
            # This jitter is longer than the stale window, so half the window is the limit.
            ({"refresh_jitter": 3600.0, "expired_buffer": 0.0}, 300.0),
        ],
    )
    def test_jitter(self, settings: dict[str, float], most: float) -> None:
        """Each token has its own jitter from the whole range, which moves only ``stale_at``."""
        drawn = [TokenInfo.from_answer(TOKEN, 3600.0, 0.0, config(**settings)) for _ in range(200)]
        moved = [one.stale_at - 3000.0 for one in drawn]

        assert len(set(moved)) > 150
        assert 0.0 <= min(moved) < most / 5
        assert most * 4 / 5 < max(moved) <= most
        assert len({one.expires_at for one in drawn}) == 1

    def test_details(self) -> None:
        """Type, scope and extra fields are kept; the default type is bearer."""
        one = TokenInfo.from_answer(
            TOKEN, 60.0, 0.0, CONFIG, token_type="Bearer", scope="a b", extra={"restricted_to": []}
        )
        assert (one.token_type, one.scope) == ("Bearer", "a b")
        assert one.extra == {"restricted_to": []}
        assert one.access_token == TOKEN
        one = TokenInfo.from_answer(TOKEN, 60.0, 0.0, CONFIG)
        assert (one.token_type, one.scope, one.extra) == ("bearer", None, {})


class TestTokenInfo:
    @pytest.mark.parametrize(
        ("reason", "tokens"),
        [
            ("must be a non-empty str", ["", None, 1, b"token"]),
            (
                "must be valid in a header",
                ["hüsh", "hu\nsh", "hush\x7f", " hush", "hush "],
            ),
        ],
    )
    def test_wrong_token(self, reason: str, tokens: list[Any]) -> None:
        """A token that is not valid in a header is refused, and not shown."""
        for wrong in tokens:
            with pytest.raises(ValueError, match=f"^access_token {reason}") as caught:
                TokenInfo(wrong, 1.0, 0.0, 1.0, 1.0)
            assert "sh" not in str(caught.value)

    @pytest.mark.parametrize(
        ("field", "times"),
        [
            ("stale_at", {"stale_at": 2.0, "end": 1.0}),
            ("stale_at", {"stale_at": math.inf}),
            ("stale_at", {"stale_at": math.nan}),
            ("expires_at", {"end": math.nan}),
            ("sent_at", {"sent_at": math.nan}),
            ("lifetime", {"lifetime": math.nan}),
            ("stale_at", {"stale_at": None}),
            ("expires_at", {"end": "900"}),
            ("sent_at", {"sent_at": None}),
            ("lifetime", {"lifetime": "3600"}),
        ],
        ids=ascii,
    )
    def test_wrong_times(self, field: str, times: dict[str, Any]) -> None:
        """``stale_at`` must not be after ``expires_at``, and all times must be numbers."""
        with pytest.raises(ValueError, match=field):
            token(**times)

    def test_frozen(self) -> None:
        """No field can be changed, and neither can ``extra``."""
        given_extra = {"a": 1}
        one = TokenInfo(TOKEN, 1.0, 0.0, 1.0, 1.0, extra=given_extra)
        for attribute in attrs.fields(TokenInfo):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(one, attribute.name, None)
        given_extra["a"] = 2
        assert one.extra == {"a": 1}
        with pytest.raises(TypeError):
            one.extra["a"] = 3  # type: ignore[index]

    def test_not_shown(self) -> None:
        """The repr and text of a token do not show the token, its scope or ``extra``."""
        one = TokenInfo(TOKEN, 60.0, 0.0, 30.0, 45.0, scope=TOKEN, extra={"id_token": "hunter2"})
        for text in (repr(one), str(one), f"{one}", repr([one])):
            assert TOKEN not in text
            assert "hunter2" not in text
        assert "expires_at=45.0" in repr(one)

    def test_equality(self) -> None:
        """Two tokens are equal, with the same hash, if all of their fields are equal."""
        assert token() == token()
        assert hash(token()) == hash(token())
        assert token() != token(sent_at=101.0)


class TestLifetime:
    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            (3600, 3600.0),
            (3600.0, 3600.0),
            (3600.5, 3600.0),
            # A fraction is rounded down, but not to nothing.
            (0.5, 0.5),
            (5e-324, 5e-324),
            (1.5, 1.0),
            ("3600", 3600.0),
            ("003600", 3600.0),
            ("0" * 5000 + "7", 7.0),
            (None, 1234.5),
            (2**31, 2.0**31),
            (2**31 - 1, 2.0**31 - 1),
            (2**31 + 1, 2.0**31),
            (10**400, 2.0**31),
            ("2147483649", 2.0**31),
            ("9" * 5000, 2.0**31),
        ],
        ids=lambda value: ascii(value)[:20] + (f" of {len(str(value))}" if value else ""),
    )
    def test_good(self, said: object, seconds: float) -> None:
        """Numbers and strings of digits are seconds; a missing value means the default."""
        lifetime = parse_lifetime(said, 1234.5)
        assert lifetime == seconds
        assert type(lifetime) is float

    @pytest.mark.parametrize(
        ("reason", "values"),
        [
            (
                "not a positive, finite number",
                [0, -1, 0.0, -0.5, -(10**400), math.nan, math.inf, -math.inf, "0", "000"],
            ),
            (
                "of type str",
                [
                    "",
                    " ",
                    "-1",
                    "+1",
                    " 3600",
                    "3600\n",
                    "3600.5",
                    "3_600",
                    "1e3",
                    "inf",
                    "٣٦٠٠",
                    "²",
                ],
            ),
            ("of type bool", [True, False]),
            ("of type list", [[], [3600]]),
            ("of type dict", [{"seconds": 3600}]),
            ("of type bytes", [b"3600"]),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_wrong(self, reason: str, values: list[object]) -> None:
        """Other values are refused; the error has the type, not the value."""
        for said in values:
            with pytest.raises(MalformedAnswerError, match=f"^expires_in is {reason}$"):
                parse_lifetime(said, 3600.0)

    @given(st.floats() | st.integers() | st.text() | st.booleans() | st.none() | st.binary())
    def test_any(self, said: object) -> None:
        """Any value gives a valid lifetime, or is refused."""
        try:
            lifetime = parse_lifetime(said, 3600.0)
        except MalformedAnswerError:
            return
        assert 0.0 < lifetime <= LIFETIME_LIMIT


def answer(**changes: object) -> dict[str, object]:
    """Return a valid answer with these changes; `...` removes a field."""
    fields = {
        "access_token": TOKEN,
        "expires_in": 3992,
        "restricted_to": [],
        "token_type": "bearer",
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


class TestReadTokenAnswer:
    def test_live_sample(self) -> None:
        """An answer of Box becomes a token whose lifetime begins when the request was sent."""
        one = read_token_answer(answer(), 16.0, CONFIG)

        assert one == TokenInfo(
            TOKEN, 3992.0, 16.0, 16.0 + 3392.0, 16.0 + 3962.0, extra={"restricted_to": []}
        )

    @pytest.mark.parametrize(
        ("expires_in", "lifetime"), [(..., 777.0), (None, 777.0), ("3600", 3600.0)], ids=ascii
    )
    def test_odd_lifetime(self, expires_in: object, lifetime: float) -> None:
        """A lifetime may be a string; without one, the config's default is used."""
        settings = config(default_lifetime=777.0)
        one = read_token_answer(answer(expires_in=expires_in), 0.0, settings)
        assert one.lifetime == lifetime
        assert one.expires_at < lifetime

    @pytest.mark.parametrize(
        ("said", "token_type"),
        [("bearer", "bearer"), ("BEARER", "BEARER"), (..., "bearer"), (None, "bearer")],
        ids=ascii,
    )
    def test_token_type(self, said: object, token_type: str) -> None:
        """The type is kept as the server wrote it, in any case; a missing one means bearer."""
        assert read_token_answer(answer(token_type=said), 0.0, CONFIG).token_type == token_type

    @pytest.mark.parametrize(
        ("reason", "changes"),
        [
            ("expires_in is not a positive, finite number", {"expires_in": [0, math.inf]}),
            ("access_token is missing", {"access_token": [..., None]}),
            ("access_token is of type int", {"access_token": [1]}),
            ("access_token is of type list", {"access_token": [["x"]]}),
            ("access_token is empty", {"access_token": [""]}),
            (
                "access_token has characters that are not valid in a header",
                {
                    "access_token": [
                        *(" ", " x", "x ", "x\r\nX-Evil: 1", "x\x00", "x\x7f", "x\ty"),
                        *("é", "\u2028", "\ud800"),
                    ]
                },
            ),
            # RFC 6749 §7.1: a client must not use a token of an unknown type.
            (
                "token_type is not bearer",
                {"token_type": ["mac", "DPoP", "", " bearer", "ℬearer", 1, True, ["bearer"], {}]},
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_wrong_answer(self, reason: str, changes: dict[str, list[object]]) -> None:
        """An answer without a usable token is malformed; the error has only the reason."""
        for field, values in changes.items():
            for value in values:
                with pytest.raises(MalformedAnswerError, match=f"^{reason}$") as caught:
                    read_token_answer(answer(**{field: value}), 0.0, CONFIG)
                assert caught.value.__context__ is None

    @pytest.mark.parametrize(
        "access_token", ["x", "1!" + "a" * 5000, "a b", "~!#$%&'()*+,-./:;<=>?@[\\]^_`{|}"]
    )
    def test_access_token(self, access_token: str) -> None:
        """A token may have any printable ASCII characters, and any length."""
        one = read_token_answer(answer(access_token=access_token), 0.0, CONFIG)
        assert one.access_token == access_token

    @pytest.mark.parametrize(
        ("said", "scope"),
        [("a b", "a b"), ("", ""), (..., None), (None, None), (["a"], None), (1, None)],
        ids=ascii,
    )
    def test_scope(self, said: object, scope: str | None) -> None:
        """The granted scope is kept if it is a str."""
        assert read_token_answer(answer(scope=said), 0.0, CONFIG).scope == scope

    def test_extra(self) -> None:
        """Unknown fields are kept in ``extra``; known fields and a refresh token are not."""
        fields = answer(
            scope="a", refresh_token="r", issued_token_type="x", error="but it worked", n=None
        )
        one = read_token_answer(fields, 0.0, CONFIG)
        assert one.extra == {
            "restricted_to": [],
            "issued_token_type": "x",
            "error": "but it worked",
            "n": None,
        }

    @given(
        st.dictionaries(
            st.sampled_from(["access_token", "expires_in", "token_type", "scope", "other"]),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=3,
            ),
        )
    )
    def test_any_answer(self, fields: dict[str, object]) -> None:
        """Any JSON object gives a usable token, or is refused."""
        try:
            one = read_token_answer(fields, 0.0, CONFIG)
        except MalformedAnswerError:
            return
        assert one.access_token.isascii()
        assert one.access_token.isprintable()
        assert 0.0 <= one.stale_at <= one.expires_at <= one.lifetime


class TestParseObject:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
    def test_encodings(self, encoding: str) -> None:
        """An object is read in every encoding of JSON, with or without a byte order mark."""
        assert parse_object('{"a": "ü"}'.encode(encoding)) == {"a": "ü"}

    def test_odd_numbers(self) -> None:
        """NaN and infinity are read; the reader of the field refuses them."""
        fields = parse_object(b'{"a": NaN, "b": 1e400, "c": -Infinity}')
        assert fields is not None
        assert math.isnan(fields["a"])
        assert (fields["b"], fields["c"]) == (math.inf, -math.inf)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[{}]",
            b'"text"',
            b"{",
            b'{"a": 1} {"b": 2}',
            b"<html></html>",
            b"\xff\xff",
            b'{"a": "\xff"}',
            codecs.BOM_UTF8,
            b'{"a":' * 5_000,
            b'{"expires_in": ' + b"9" * 5000 + b"}",
            # No token answer has so many values, and reading them takes long.
            b'{"a": [' + b"0," * 10_000 + b"0]}",
            b'{"a": [' + b"[]," * 5_001 + b"0]}",
            b'{"a": [' + b"{}," * 5_001 + b"0]}",
        ],
        ids=lambda body: ascii(body[:25]),
    )
    def test_no_object(self, body: bytes) -> None:
        """A body without an object gives None, and raises no error that would contain the body."""
        assert parse_object(body) is None

    def test_many_values(self) -> None:
        """An object with almost 10,000 values is read."""
        fields = parse_object(b'{"a": [' + b"0," * 9_998 + b"0]}")
        assert fields is not None
        assert len(fields["a"]) == 9_999

    @given(st.binary())
    def test_any_bytes(self, body: bytes) -> None:
        """Any bytes give a dict or None."""
        assert isinstance(parse_object(body), dict | None)


class TestTokenRequestOptions:
    @pytest.mark.parametrize(
        "ip",
        [
            None,
            "::ffff:192.0.2.1",
            "192.0.2.1, 2001:db8::1",
            " 192.0.2.1 ,198.51.100.7 ",
        ],
    )
    def test_good(self, ip: str | None) -> None:
        """IP addresses are kept as given."""
        assert TokenRequestOptions(ip=ip).ip == ip
        assert TokenRequestOptions().ip is None

    @pytest.mark.parametrize(
        ("reason", "values"),
        [
            (
                "number 1 is not an IP address$",
                [
                    *("", " ", ",", ",192.0.2.1", "192.0.2.1 192.0.2.2", "192.0.2.1;192.0.2.2"),
                    *("localhost", "192.0.2", "192.0.2.256", "192.0.2.01", "192.0.2.1:80"),
                    *("192.0.2.0/24", "[2001:db8::1]", "fe80::1%"),
                ],
            ),
            (
                "number 2 is not an IP address$",
                ["192.0.2.1,", "192.0.2.1,,192.0.2.2", "192.0.2.1, example.com"],
            ),
            (", without a zone$", ["fe80::1%eth0", "192.0.2.1, fe80::1%1"]),
            # A line break would start another header.
            (
                "separated by commas$",
                [
                    *("192.0.2.1\r\nX-Evil: 1", "192.0.2.1\n", "\n192.0.2.1", "192.0.2.1\t"),
                    *("192.0.2.1\x00", "192.0.2.1\x85", "１９２.0.2.1", "٣.0.2.1"),
                    *(1, True, b"192.0.2.1", ["192.0.2.1"]),
                ],
            ),
        ],
    )
    def test_wrong(self, reason: str, values: list[Any]) -> None:
        """A text that is no list of IP addresses is a ConfigError."""
        for ip in values:
            with pytest.raises(ConfigError) as caught:
                TokenRequestOptions(ip=ip)
            assert caught.value.field == "ip"
            assert str(caught.value).isprintable()
            assert re.search(f"must be an IP address.*{reason}", caught.value.wants)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """An accepted text has only characters that are safe in a header."""
        try:
            options = TokenRequestOptions(ip=text)
        except ConfigError:
            return
        assert options.ip is not None
        assert set(options.ip) <= set("0123456789abcdefABCDEF.:, ")

    def test_frozen(self) -> None:
        """Options cannot be changed."""
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            TokenRequestOptions().ip = "192.0.2.1"  # type: ignore[misc]
