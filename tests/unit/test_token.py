"""Tokens: states, boundaries, and what an answer says."""

from __future__ import annotations

import codecs
import copy
import json
import math
import pickle
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
            (0.0, TokenState.FRESH),
            (100.0, TokenState.FRESH),
            (math.nextafter(600.0, 0), TokenState.FRESH),
            (600.0, TokenState.STALE),
            (math.nextafter(600.0, math.inf), TokenState.STALE),
            (math.nextafter(900.0, 0), TokenState.STALE),
            (900.0, TokenState.EXPIRED),
            (math.nextafter(900.0, math.inf), TokenState.EXPIRED),
            # The server would still take it.
            (1099.0, TokenState.EXPIRED),
            (1100.0, TokenState.EXPIRED),
            (math.inf, TokenState.EXPIRED),
        ],
    )
    def test_boundaries(self, now: float, state: TokenState) -> None:
        """A boundary belongs to the later state."""
        assert state_at(token(), now) is state

    @pytest.mark.parametrize("now", [-math.inf, 0.0, math.inf])
    def test_no_token(self, now: float) -> None:
        """Without a token the state is EMPTY at any time."""
        assert state_at(None, now) is TokenState.EMPTY

    def test_no_stale_window(self) -> None:
        """Where both boundaries meet, FRESH becomes EXPIRED."""
        one = token(stale_at=900.0)
        assert state_at(one, math.nextafter(900.0, 0)) is TokenState.FRESH
        assert state_at(one, 900.0) is TokenState.EXPIRED

    def test_names(self) -> None:
        """There are four states, and the value of each is a word for a log."""
        assert [state.name for state in TokenState] == ["EMPTY", "FRESH", "STALE", "EXPIRED"]
        assert [state.value for state in TokenState] == ["empty", "fresh", "stale", "expired"]

    @given(
        st.floats(allow_nan=False),
        st.floats(allow_nan=False),
        st.lists(st.floats(allow_nan=False), min_size=2, max_size=10),
    )
    def test_never_goes_back(self, one: float, other: float, times: list[float]) -> None:
        """As time passes a token's state only moves forward."""
        stale_at, end = sorted((one, other))
        order = [TokenState.FRESH, TokenState.STALE, TokenState.EXPIRED]
        seen = [
            order.index(state_at(token(stale_at=stale_at, end=end), now)) for now in sorted(times)
        ]
        assert seen == sorted(seen)


lifetimes = st.floats(min_value=1e-3, max_value=LIFETIME_LIMIT) | st.integers(1, 5000).map(float)
buffers = st.floats(min_value=0, max_value=1e12) | st.sampled_from([0.0, 30.0, 600.0])
times = st.floats(min_value=0, max_value=1e7)


class TestFromAnswer:
    @pytest.mark.parametrize(
        ("lifetime", "stale_buffer", "expired_buffer", "stale_at", "expires_at"),
        [
            (3600.0, 600.0, 30.0, 3000.0, 3570.0),
            (3600.0, 0.0, 0.0, 3600.0, 3600.0),
            # No stale window.
            (3600.0, 0.0, 30.0, 3570.0, 3570.0),
            (3600.0, 10.0, 30.0, 3570.0, 3570.0),
            (3600.0, 30.0, 30.0, 3570.0, 3570.0),
            # The clamps: a half and a quarter.
            (1200.0, 600.0, 30.0, 600.0, 1170.0),
            (1000.0, 600.0, 30.0, 500.0, 970.0),
            (120.0, 600.0, 30.0, 60.0, 90.0),
            (100.0, 600.0, 30.0, 50.0, 75.0),
            (1.0, 600.0, 30.0, 0.5, 0.75),
            (100.0, 10.0, 1e9, 75.0, 75.0),
            (100.0, 1e9, 0.0, 50.0, 100.0),
        ],
    )
    @pytest.mark.parametrize("sent_at", [0.0, 4096.0])
    def test_boundaries(
        self,
        sent_at: float,
        lifetime: float,
        stale_buffer: float,
        expired_buffer: float,
        stale_at: float,
        expires_at: float,
    ) -> None:
        """The boundaries lie the clamped buffers before the end of the life."""
        settings = config(stale_buffer=stale_buffer, expired_buffer=expired_buffer)

        one = TokenInfo.from_answer(TOKEN, lifetime, sent_at, settings)

        assert (one.sent_at, one.lifetime) == (sent_at, lifetime)
        assert (one.stale_at - sent_at, one.expires_at - sent_at) == (stale_at, expires_at)

    @given(lifetimes, times, buffers, buffers, buffers)
    @example(1e-3, 1e7, 600.0, 30.0, 1e12)
    def test_order(
        self, lifetime: float, sent_at: float, stale: float, expired: float, jitter: float
    ) -> None:
        """Whatever the settings, a token is born fresh, ages in order, and dies in time."""
        settings = config(stale_buffer=stale, expired_buffer=expired, refresh_jitter=jitter)

        one = TokenInfo.from_answer(TOKEN, lifetime, sent_at, settings)

        assert sent_at < one.stale_at <= one.expires_at <= sent_at + lifetime
        # Half of the life is fresh, three quarters are usable.
        slack = 1e-5
        assert one.stale_at - sent_at >= lifetime / 2 - slack
        assert one.expires_at - sent_at >= lifetime * 3 / 4 - slack

    @given(lifetimes, times, buffers, buffers)
    def test_stale_window(
        self, lifetime: float, sent_at: float, stale: float, expired: float
    ) -> None:
        """Without jitter the stale window is what the clamped buffers leave of each other."""
        settings = config(stale_buffer=stale, expired_buffer=expired)

        one = TokenInfo.from_answer(TOKEN, lifetime, sent_at, settings)

        window = max(0.0, min(stale, lifetime / 2) - min(expired, lifetime / 4))
        assert one.expires_at - one.stale_at == pytest.approx(window, rel=1e-9, abs=1e-5)
        if stale >= lifetime / 2:
            assert one.expires_at - one.stale_at >= lifetime / 4 - 1e-5

    @given(lifetimes, times, buffers, buffers, st.floats(min_value=1e-3, max_value=1e12))
    def test_jitter(
        self, lifetime: float, sent_at: float, stale: float, expired: float, jitter: float
    ) -> None:
        """Jitter moves the stale boundary later, by at most half the window, and no other."""
        settings = config(stale_buffer=stale, expired_buffer=expired)
        plain = TokenInfo.from_answer(TOKEN, lifetime, sent_at, settings)

        one = TokenInfo.from_answer(
            TOKEN, lifetime, sent_at, settings.replace(refresh_jitter=jitter)
        )

        window = plain.expires_at - plain.stale_at
        assert 0.0 <= one.stale_at - plain.stale_at <= min(jitter, window / 2) + 1e-5
        assert one.expires_at == plain.expires_at
        assert one.lifetime == plain.lifetime

    def test_jitter_differs(self) -> None:
        """Jitter is drawn anew for each token, over all of its range."""
        settings = config(refresh_jitter=100.0)

        drawn = [
            TokenInfo.from_answer(TOKEN, 3600.0, 0.0, settings).stale_at - 3000.0
            for _ in range(500)
        ]

        assert len(set(drawn)) > 400
        assert 0.0 <= min(drawn) < 20.0
        assert 80.0 < max(drawn) <= 100.0

    def test_jitter_in_a_small_window(self) -> None:
        """A jitter that is larger than the window is drawn from the whole of its first half."""
        settings = config(stale_buffer=600.0, expired_buffer=0.0, refresh_jitter=3600.0)

        drawn = [
            TokenInfo.from_answer(TOKEN, 3600.0, 0.0, settings).stale_at - 3000.0
            for _ in range(500)
        ]

        assert 0.0 <= min(drawn) < 30.0
        assert 270.0 < max(drawn) <= 300.0

    def test_details(self) -> None:
        """What else the server said is kept."""
        one = TokenInfo.from_answer(
            TOKEN, 60.0, 0.0, CONFIG, token_type="Bearer", scope="a b", extra={"restricted_to": []}
        )
        assert (one.token_type, one.scope) == ("Bearer", "a b")
        assert one.extra == {"restricted_to": []}
        assert one.access_token == TOKEN

    def test_detail_defaults(self) -> None:
        """Without details a token is a bearer token with no scope."""
        one = TokenInfo.from_answer(TOKEN, 60.0, 0.0, CONFIG)
        assert (one.token_type, one.scope, one.extra) == ("bearer", None, {})


class TestTokenInfo:
    @pytest.mark.parametrize("wrong", ["", None, 1, b"token"])
    def test_wrong_token(self, wrong: Any) -> None:
        """A token is non-empty text."""
        with pytest.raises(ValueError, match="access_token"):
            TokenInfo(wrong, 1.0, 0.0, 1.0, 1.0)

    @pytest.mark.parametrize("wrong", ["hüsh", "hu\nsh", "hush\x7f", " hush", "hush "])
    def test_token_that_no_header_can_carry(self, wrong: str) -> None:
        """A token that no header could carry is refused, and not shown."""
        with pytest.raises(ValueError, match=r"^access_token: wants what a header can") as caught:
            TokenInfo(wrong, 1.0, 0.0, 1.0, 1.0)
        assert wrong.strip() not in str(caught.value)

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
        """A token is stale before it is expired, and all of its times are numbers."""
        with pytest.raises(ValueError, match=field):
            token(**times)

    def test_frozen(self) -> None:
        """No field can be changed, nor what is in `extra`."""
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
        """Neither the token nor what else came with it is in any text of it."""
        one = TokenInfo(TOKEN, 60.0, 0.0, 30.0, 45.0, extra={"id_token": "hunter2"})
        for text in (repr(one), str(one), f"{one}", repr([one])):
            assert TOKEN not in text
            assert "hunter2" not in text
        assert "expires_at=45.0" in repr(one)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_no_pickle(self, protocol: int) -> None:
        """A token refuses to be pickled, and says why."""
        with pytest.raises(TypeError, match="TokenInfo cannot be pickled: it would write"):
            pickle.dumps(token(), protocol)

    def test_copy_is_itself(self) -> None:
        """A copy of what cannot change is the thing itself."""
        one = token()
        assert copy.copy(one) is one
        assert copy.deepcopy({"token": one})["token"] is one

    def test_equality(self) -> None:
        """Two tokens are equal if all of their fields are, and hash alike."""
        assert token() == token()
        assert hash(token()) == hash(token())
        assert token() != token(sent_at=101.0)


class TestLifetime:
    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            (3600, 3600.0),
            (1, 1.0),
            (3600.0, 3600.0),
            (3600.5, 3600.0),
            (3600.999, 3600.0),
            # A fraction is rounded down, but not to nothing.
            (0.5, 0.5),
            (5e-324, 5e-324),
            (1.5, 1.0),
            ("3600", 3600.0),
            ("003600", 3600.0),
            ("1", 1.0),
            ("0" * 5000 + "7", 7.0),
            (None, 1234.5),
            (2**31, 2.0**31),
            (2**31 - 1, 2.0**31 - 1),
            (2**31 + 1, 2.0**31),
            (10**400, 2.0**31),
            (1e308, 2.0**31),
            ("2147483648", 2.0**31),
            ("2147483649", 2.0**31),
            ("99999999999", 2.0**31),
            ("9" * 5000, 2.0**31),
            ("1" + "0" * 5000, 2.0**31),
        ],
        ids=lambda value: ascii(value)[:20] + (f" of {len(str(value))}" if value else ""),
    )
    def test_good(self, said: object, seconds: float) -> None:
        """Numbers and strings of digits are seconds; absent or null means the default."""
        lifetime = parse_lifetime(said, 1234.5)
        assert lifetime == seconds
        assert type(lifetime) is float

    @pytest.mark.parametrize(
        "said",
        [
            0,
            -1,
            0.0,
            -0.0,
            -0.5,
            -(10**400),
            True,
            False,
            math.nan,
            math.inf,
            -math.inf,
            "",
            " ",
            "0",
            "000",
            "-1",
            "+1",
            " 3600",
            "3600 ",
            "3600\n",
            "3600.5",
            "3_600",
            "1e3",
            "0x10",
            "NaN",
            "inf",
            "true",
            "never",
            "٣٦٠٠",
            "²",
            "3600s",
            [],
            [3600],
            {},
            {"seconds": 3600},
            b"3600",
        ],
        ids=lambda value: ascii(value)[:20],
    )
    def test_wrong(self, said: object) -> None:
        """Everything else is no lifetime."""
        with pytest.raises(MalformedAnswerError, match="expires_in"):
            parse_lifetime(said, 3600.0)

    @pytest.mark.parametrize(
        ("said", "kind"), [([3600], "list"), ({"seconds": 3600}, "dict"), (True, "bool")]
    )
    def test_wrong_type_is_named(self, said: object, kind: str) -> None:
        """Of a lifetime that is no number the type is told, and not the value."""
        with pytest.raises(MalformedAnswerError, match=f"expires_in is a {kind}$"):
            parse_lifetime(said, 3600.0)

    @given(st.floats() | st.integers() | st.text() | st.booleans() | st.none() | st.binary())
    def test_any(self, said: object) -> None:
        """Whatever it is, it is a good lifetime or refused."""
        try:
            lifetime = parse_lifetime(said, 3600.0)
        except MalformedAnswerError:
            return
        assert 0.0 < lifetime <= LIFETIME_LIMIT

    @given(st.integers(1, 2**31))
    def test_round_trip(self, seconds: int) -> None:
        """A whole number means the same as a number, as a float and as digits."""
        assert parse_lifetime(seconds, 1.0) == seconds
        assert parse_lifetime(float(seconds), 1.0) == seconds
        assert parse_lifetime(str(seconds), 1.0) == seconds


def answer(**changes: object) -> dict[str, object]:
    """Return a good answer with these changes; `...` takes a field away."""
    fields = {
        "access_token": TOKEN,
        "expires_in": 3992,
        "restricted_to": [],
        "token_type": "bearer",
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


class TestReadTokenAnswer:
    def test_live_sample(self) -> None:
        """An answer of Box becomes a token that counts from the moment of sending."""
        one = read_token_answer(answer(), 16.0, CONFIG)

        assert one == TokenInfo(
            TOKEN, 3992.0, 16.0, 16.0 + 3392.0, 16.0 + 3962.0, extra={"restricted_to": []}
        )

    @pytest.mark.parametrize(
        ("expires_in", "lifetime"),
        [
            (..., 777.0),
            (None, 777.0),
            ("3600", 3600.0),
            (3600.5, 3600.0),
            (10**30, LIFETIME_LIMIT),
        ],
        ids=ascii,
    )
    def test_odd_lifetime(self, expires_in: object, lifetime: float) -> None:
        """An odd but usable lifetime is read; none at all means the config's."""
        settings = config(default_lifetime=777.0)
        one = read_token_answer(answer(expires_in=expires_in), 0.0, settings)
        assert one.lifetime == lifetime
        assert one.expires_at < lifetime

    @pytest.mark.parametrize(
        "text", ["0", "-1", "1e400", "NaN", "Infinity", "-Infinity", "true", '""', "[]", "{}"]
    )
    def test_wrong_lifetime(self, text: str) -> None:
        """A lifetime that means nothing makes the answer malformed."""
        fields = parse_object(f'{{"access_token": "{TOKEN}", "expires_in": {text}}}'.encode())
        assert fields is not None
        with pytest.raises(MalformedAnswerError, match="expires_in"):
            read_token_answer(fields, 0.0, CONFIG)

    @pytest.mark.parametrize("token_type", ["bearer", "Bearer", "BEARER"])
    def test_token_type(self, token_type: str) -> None:
        """The type is taken in any case, and kept as the server wrote it."""
        assert (
            read_token_answer(answer(token_type=token_type), 0.0, CONFIG).token_type == token_type
        )

    @pytest.mark.parametrize("token_type", [..., None])
    def test_no_token_type(self, token_type: object) -> None:
        """A missing type means bearer."""
        assert read_token_answer(answer(token_type=token_type), 0.0, CONFIG).token_type == "bearer"

    @pytest.mark.parametrize(
        "token_type",
        ["mac", "DPoP", "N_A", "", " bearer", "bearer ", "ℬearer", 1, True, ["bearer"], {}],
        ids=ascii,
    )
    def test_wrong_token_type(self, token_type: object) -> None:
        """A token of a type that is not understood is not used (RFC 6749 §7.1)."""
        with pytest.raises(MalformedAnswerError, match="token_type"):
            read_token_answer(answer(token_type=token_type), 0.0, CONFIG)

    @pytest.mark.parametrize(
        "access_token", ["x", "1!" + "a" * 5000, "a b", "~!#$%&'()*+,-./:;<=>?@[\\]^_`{|}"]
    )
    def test_access_token(self, access_token: str) -> None:
        """A token is opaque: any printable characters of ASCII, any length."""
        assert (
            read_token_answer(answer(access_token=access_token), 0.0, CONFIG).access_token
            == access_token
        )

    @pytest.mark.parametrize(
        "access_token",
        [
            ...,
            None,
            "",
            " ",
            " x",
            "x ",
            "x\r\nX-Evil: 1",
            "x\x00",
            "x\x7f",
            "x\ty",
            "é",
            "\u2028",
            "\ud800",
            1,
            True,
            ["x"],
            {"token": "x"},
        ],
        ids=ascii,
    )
    def test_wrong_access_token(self, access_token: object) -> None:
        """What no header can carry is no token, and is not quoted."""
        with pytest.raises(MalformedAnswerError, match="access_token") as caught:
            read_token_answer(answer(access_token=access_token), 0.0, CONFIG)
        assert "Evil" not in str(caught.value)
        assert caught.value.__context__ is None

    @pytest.mark.parametrize(
        ("access_token", "problem"),
        [
            (..., "missing"),
            (None, "missing"),
            (1, "a int"),
            (["x"], "a list"),
            ("", "empty"),
            ("é", "characters that no header can carry"),
        ],
        ids=ascii,
    )
    def test_what_is_wrong_is_said(self, access_token: object, problem: str) -> None:
        """Who has to talk to the server's people is told what it sent in place of a token."""
        with pytest.raises(MalformedAnswerError, match=f"access_token .*{problem}"):
            read_token_answer(answer(access_token=access_token), 0.0, CONFIG)

    @pytest.mark.parametrize(
        ("said", "scope"),
        [("a b", "a b"), ("", ""), (..., None), (None, None), (["a"], None), (1, None)],
        ids=ascii,
    )
    def test_scope(self, said: object, scope: str | None) -> None:
        """The granted scope is kept where it is text."""
        assert read_token_answer(answer(scope=said), 0.0, CONFIG).scope == scope

    def test_extra(self) -> None:
        """Unknown fields are kept aside, the known are not, and a refresh token is dropped."""
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

    def test_echoed_secrets_are_not_shown(self) -> None:
        """A server that repeats the token in other fields brings it into no text."""
        one = read_token_answer(answer(scope=TOKEN, **{TOKEN: TOKEN, "state": TOKEN}), 0.0, CONFIG)
        assert TOKEN not in repr(one)

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
        """Any JSON object is a usable token or refused."""
        try:
            one = read_token_answer(fields, 0.0, CONFIG)
        except MalformedAnswerError:
            return
        assert one.access_token.isascii()
        assert one.access_token.isprintable()
        assert 0.0 <= one.stale_at <= one.expires_at <= one.lifetime


class TestParseObject:
    @pytest.mark.parametrize(
        "encoding",
        ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"],
    )
    def test_encodings(self, encoding: str) -> None:
        """An object is read in every encoding of JSON, with a byte order mark or without."""
        assert parse_object('{"a": "ü"}'.encode(encoding)) == {"a": "ü"}

    def test_white_space(self) -> None:
        """White space around the object does no harm."""
        assert parse_object(b' \r\n\t{"a": 1}\n\n') == {"a": 1}

    def test_duplicate_keys(self) -> None:
        """Of two fields of the same name the last one counts."""
        assert parse_object(b'{"a": 1, "a": 2}') == {"a": 2}

    def test_odd_numbers(self) -> None:
        """Numbers that JSON does not know are left for the reader of the field to refuse."""
        fields = parse_object(b'{"a": NaN, "b": 1e400, "c": -Infinity}')
        assert fields is not None
        assert math.isnan(fields["a"])
        assert (fields["b"], fields["c"]) == (math.inf, -math.inf)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"null",
            b"[]",
            b"[{}]",
            b"1",
            b'"text"',
            b"true",
            b"{",
            b'{"access_token": "abc"',
            b"{'a': 1}",
            b'{"a": 1} {"b": 2}',
            b"<html></html>",
            b"access_token=abc&expires_in=1",
            b"\xff\xff",
            b'{"a": "\xff"}',
            codecs.BOM_UTF8,
            codecs.BOM_UTF16_LE + b"{",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"expires_in": ' + b"9" * 5000 + b"}",
            b"\x00",
            b"\x1f\x8b\x08\x00",
            # More values than any token answer has, which take long to read.
            b'{"a": [' + b"0," * 10_000 + b"0]}",
            b'{"a": [' + b"[]," * 5_001 + b"0]}",
            b'{"a": [' + b"{}," * 350_000 + b"0]}",
        ],
        ids=lambda body: ascii(body[:25]),
    )
    def test_no_object(self, body: bytes) -> None:
        """What holds no object is None, and never an error that would hold the body."""
        assert parse_object(body) is None

    def test_many_values(self) -> None:
        """Ten thousand values are read."""
        fields = parse_object(b'{"a": [' + b"0," * 9_998 + b"0]}")
        assert fields is not None
        assert len(fields["a"]) == 9_999

    @given(st.binary())
    def test_any_bytes(self, body: bytes) -> None:
        """No body raises."""
        assert isinstance(parse_object(body), dict | None)

    @given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()))
    def test_round_trip(self, document: dict[str, object]) -> None:
        """An object that was written as JSON is read back."""
        assert parse_object(json.dumps(document).encode()) == document


class TestTokenRequestOptions:
    @pytest.mark.parametrize(
        "ip",
        [
            None,
            "192.0.2.1",
            "2001:db8::1",
            "::ffff:192.0.2.1",
            "192.0.2.1, 2001:db8::1",
            "192.0.2.1,198.51.100.7",
            " 192.0.2.1 , 198.51.100.7 ",
        ],
    )
    def test_good(self, ip: str | None) -> None:
        """Addresses are kept as they were given."""
        assert TokenRequestOptions(ip=ip).ip == ip

    def test_default(self) -> None:
        """Nothing is asked for by default."""
        assert TokenRequestOptions() == TokenRequestOptions(ip=None)

    @pytest.mark.parametrize(
        "ip",
        [
            "",
            " ",
            ",",
            "192.0.2.1,",
            ",192.0.2.1",
            "192.0.2.1,,192.0.2.2",
            "192.0.2.1 192.0.2.2",
            "192.0.2.1;192.0.2.2",
            "localhost",
            "example.com",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.01",
            "192.0.2.1:80",
            "192.0.2.0/24",
            "[2001:db8::1]",
            "fe80::1%eth0",
            "fe80::1%",
            "192.0.2.1, fe80::1%1",
            "192.0.2.1\r\nX-Evil: 1",
            "192.0.2.1\n",
            "\n192.0.2.1",
            "192.0.2.1\r",
            "192.0.2.1,\n192.0.2.2",
            "192.0.2.1\t",
            "192.0.2.1\x00",
            "192.0.2.1\x85",
            "１９２.0.2.1",
            "٣.0.2.1",
            1,
            True,
            b"\xc0\x00\x02\x01",
            b"192.0.2.1",
            ["192.0.2.1"],
        ],
        ids=ascii,
    )
    def test_wrong(self, ip: Any) -> None:
        """Anything but addresses is refused before it can reach a header."""
        with pytest.raises(ConfigError) as caught:
            TokenRequestOptions(ip=ip)
        assert caught.value.field == "ip"
        assert str(caught.value).isprintable()
        assert "wants an IP address" in caught.value.wants

    @pytest.mark.parametrize(
        ("ip", "told"),
        [("192.0.2.1, example.com", "number 2 is none"), ("fe80::1%eth0", "without a zone")],
    )
    def test_what_is_wrong_is_said(self, ip: str, told: str) -> None:
        """Of several addresses the one that is none is named."""
        with pytest.raises(ConfigError, match=told):
            TokenRequestOptions(ip=ip)

    @given(st.lists(st.ip_addresses(), min_size=1, max_size=4))
    def test_any_addresses(self, addresses: list[object]) -> None:
        """Any list of addresses is taken."""
        ip = ", ".join(map(str, addresses))
        assert TokenRequestOptions(ip=ip).ip == ip

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever is taken is safe in a header."""
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
