"""Tests of stores that hold or return garbage: it is ignored, and callers get tokens."""

from __future__ import annotations

import json
import logging
import math
import unicodedata
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config, run_virtually
from trio_anon_session import AnonymousSession, TokenRequestError, TokenUnavailableError
from trio_anon_session.stores import (
    Look,
    MemoryStore,
    SharedTokenManager,
    StoredFailure,
    StoredToken,
)
from trio_anon_session.stores._access import is_look
from trio_anon_session.stores._records import (
    ForeignRecordError,
    LaterFormatError,
    failure_record,
    read_failure_record,
    read_token_record,
    token_record,
)

from .faulty import FaultyStore, get_all, levels, make_source, open_fleet

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from trio.testing import MockClock

CONFIG = make_config()
GOOD: dict[str, Any] = json.loads(
    token_record(FakeTokenManager(CONFIG).new_token(0.0), CONFIG, "x")
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


# Records of tokens


@st.composite
def records(draw: st.DrawFn) -> str:
    """Draw any text, any JSON, and valid records with some invalid or missing fields."""
    kind = draw(st.sampled_from(["text", "JSON", "spoilt", "cut"]))
    if kind == "text":
        return draw(st.text(st.characters()))
    if kind == "JSON":
        return json.dumps(draw(JSON))
    if kind == "cut":
        whole = json.dumps(GOOD)
        return whole[: draw(st.integers(0, len(whole) - 1))]
    spoilt = GOOD | draw(
        st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, min_size=1, max_size=3)
    )
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=2)):
        spoilt.pop(name, None)
    return json.dumps(spoilt)


@given(record=records())
@example("")
@example("[" * 100_000)
@example("9" * 5000)
@example("\ud800")
@example('{"purpose": NaN}')
@example(json.dumps(GOOD | {"scope": 7, "token_type": 7}))
@example(json.dumps(GOOD | {"access_token": ""}))
def test_any_text_is_read_as_no_token_or_a_usable_one(record: str) -> None:
    """Reading any text returns a usable token or None, or reports a foreign or newer record."""
    try:
        token = read_token_record(record, 0.0, CONFIG)
    except (ForeignRecordError, LaterFormatError):
        return
    if token is not None:
        assert token.access_token
        assert isinstance(token.token_type, str)
        assert isinstance(token.scope, str | None)


@pytest.mark.parametrize("lifetime", [0.0, -1.0, math.inf, math.nan, 1e300, True, "3600", None, 7])
def test_a_record_with_an_invalid_lifetime(lifetime: object) -> None:
    """A record whose lifetime is not a valid float is not read as a token."""
    assert read_token_record(json.dumps(GOOD | {"lifetime": lifetime}), 0.0, CONFIG) is None


@pytest.mark.parametrize(
    "record",
    ["", "[" * 100_000, '{"access_token": "a-token"}', json.dumps(GOOD)],
    ids=["nothing", "nested", "without purpose", "under another mark"],
)
async def test_garbage_is_logged_and_overwritten(
    autojump_clock: MockClock, record: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid record, or one under a wrong mark, is logged, and a shared token replaces it."""

    class Spoilt(MemoryStore):
        async def look(self, name: str, marks: Collection[str] = ()) -> Look:
            if name not in self._entries:
                fence = await self.claim(name, "x", (await super().look(name)).version, 5.0)
                assert fence is not None
                await self.put(name, fence, StoredToken(record, "a mark", 3600.0, 1.0))
            return await super().look(name, marks)

    source = make_source()
    async with open_fleet(5, source, Spoilt()) as sessions:
        assert await get_all(sessions) == ["token-1"] * 5
    assert len(source.sent) == 1
    assert set(levels(caplog)) == {"WARNING"}
    assert (
        "invalid record (it does not contain a token): the next token overwrites it" in caplog.text
    )
    assert record not in caplog.text or not record


# Records of failures


_WORDS = st.text(max_size=20) | st.just("s3cret") | st.just("of s3cret!")


class _OddError(TokenRequestError):
    """An error of a custom token manager, with any attributes."""


@given(
    facts=st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(st.none(), _WORDS, st.integers(), st.booleans(), st.floats())
            for name in (
                *("status_code", "error", "error_description", "request_id", "next_step"),
                *("retry_after", "attempts"),
            )
        },
    ),
    words=_WORDS,
    count=st.integers(0, 2000),
)
def test_any_error_can_be_stored(facts: dict[str, Any], words: str, count: int) -> None:
    """Any error of a custom manager can be stored and read, without the client's secret."""
    config = make_config(client_secret="s3cret")
    error = _OddError(words)
    vars(error).update(facts)
    record = failure_record(error, count, config)
    assert "s3cret" not in record
    told, counted = read_failure_record(record, 3.0, config)
    assert counted == min(count, 1000)
    assert told is not None
    assert "s3cret" not in str(told)
    assert told.retry_after == 3.0
    for name in ("error", "error_description", "request_id", "next_step"):
        assert isinstance(getattr(told, name), str | None)


@given(
    record=st.one_of(
        st.text(),
        JSON.map(json.dumps),
        st.fixed_dictionaries(
            {},
            optional={
                "count": st.integers() | st.booleans() | st.text(),
                "status_code": st.none() | st.integers() | st.text(),
                "message": st.none() | st.text() | st.integers(),
                "error": st.none() | st.text() | st.lists(st.integers()),
            },
        ).map(json.dumps),
    )
)
@example('{"count": 1, "message": 7}')
def test_any_garbage_is_no_failure_or_one_that_can_be_shown(record: str) -> None:
    """A failure record with any text is ignored, or read as an error that is safe to log."""
    told, count = read_failure_record(record, 1.0, CONFIG)
    assert 0 <= count <= 1000
    if told is not None:
        # The text contains no characters that forge a log line or control a terminal. It may
        # contain characters that this version of Python does not know.
        assert not any(
            unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in str(told)
        )
        assert told.retryable


def test_a_failure_without_a_message() -> None:
    """A failure without a message is read as an error that says so and has no pause."""
    error = TokenUnavailableError("", status_code=503)
    told, _ = read_failure_record(failure_record(error, 1, CONFIG), 0.0, CONFIG)
    assert told is not None
    assert str(told) == "the fleet's last attempt failed: no reason given"
    assert told.retry_after is None


# Answers


def _lies() -> Iterator[object]:
    token = StoredToken("record", "mark", 1.0, 0.0)
    failure = StoredFailure("record", 1, 0.0)
    nonsense: Any
    for nonsense in (None, "x", 7, object(), [], {"version": 1}, Look):
        yield nonsense
    for nonsense in (None, "1", 1.5, object()):
        yield Look(nonsense)
    for nonsense in (7, b"owner", object()):
        yield Look(1, owner=nonsense)
    for nonsense in ("x", 7, object()):
        yield Look(1, token=nonsense)
        yield Look(1, failure=nonsense)
        yield Look(1, dead=nonsense)
    for nonsense in (None, "x", math.nan, -7.0, math.inf, 10**400, object()):
        yield Look(1, leased_for=nonsense)
        yield Look(1, token=attrs.evolve(token, age=nonsense))
        yield Look(1, token=attrs.evolve(token, lifetime=nonsense))
        yield Look(1, failure=attrs.evolve(failure, pause=nonsense))
    for nonsense in (None, 7, b"record", object()):
        yield Look(1, token=attrs.evolve(token, record=nonsense))
        yield Look(1, token=attrs.evolve(token, mark=nonsense))
        yield Look(1, failure=attrs.evolve(failure, record=nonsense))
    for nonsense in (None, "1", object()):
        yield Look(1, failure=attrs.evolve(failure, fence=nonsense))


def test_an_invalid_look_is_rejected() -> None:
    """An answer is no Look if any of its parts has a wrong type or is out of range."""
    assert [lie for lie in _lies() if is_look(lie)] == []


async def test_an_invalid_answer_is_logged_as_a_failure(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid answer is logged once as a failure of the store, and its end is logged, too."""
    caplog.set_level(logging.INFO, "trio_anon_session")
    source, store = make_source(max_retries=0), FaultyStore()
    store.lies = {"look": Look(1, leased_for=math.nan)}
    async with open_fleet(1, source, store) as (session,):
        assert await session.get_access_token() == "token-1"
        await trio.sleep(5.0)
        assert levels(caplog) == ["WARNING"]
        assert "fails (it returned an invalid answer)" in caplog.text
        store.lies = {}
        await trio.sleep(1.0)
        assert levels(caplog) == ["WARNING", "INFO"]


async def test_a_pause_that_never_ends_is_not_kept(autojump_clock: MockClock) -> None:
    """A pause in the store delays a token request by `max_retry_interval` at most."""
    source, store = make_source(max_retry_interval=30.0, max_wait=None), FaultyStore()
    record = '{"count": 3, "status_code": 503, "message": "busy"}'
    for pause in (1e9, 30.0):
        store.lies = {"look": Look(7, failure=StoredFailure(record, 3, pause))}
        store.lies |= {"claim": 8, "put": True}
        async with open_fleet(1, source, store) as (session,):
            began_at = trio.current_time()
            await session.get_access_token()
            assert trio.current_time() - began_at <= 31.0


_NUMBERS = st.floats() | st.integers(-(10**400), 10**400) | st.none() | st.text(max_size=3)


@given(
    look=st.one_of(
        st.none(),
        st.builds(
            Look,
            version=st.integers() | _NUMBERS,
            token=st.none()
            | st.builds(
                StoredToken, record=records(), mark=st.text(), lifetime=_NUMBERS, age=_NUMBERS
            ),
            leased_for=_NUMBERS | st.just(0.0),
            owner=st.none() | st.text(),
            failure=st.none()
            | st.builds(
                StoredFailure,
                record=records()
                | st.builds(
                    '{{"count": {}, "status_code": {}, "message": {}}}'.format,
                    st.integers(),
                    st.integers() | st.just("null"),
                    st.sampled_from(['"busy"', "null", "7"]),
                ),
                fence=st.integers() | _NUMBERS,
                pause=_NUMBERS,
            ),
            dead=st.frozensets(st.text(), max_size=2),
        ),
    ),
    claim=st.none() | st.integers() | st.text(max_size=3) | st.booleans(),
    put=st.none() | st.booleans() | st.text(max_size=3),
    renew=st.none() | st.booleans(),
)
def test_callers_get_tokens_whatever_a_store_answers(
    look: Look | None, claim: object, put: object, renew: object
) -> None:
    """With any answers of the store, callers get tokens, and no call runs in a hot loop."""

    async def main() -> None:
        source = make_source(
            lifetime=200.0, latency=3.0, max_retry_interval=20.0, max_retries=9, request_timeout=5.0
        )
        store = FaultyStore()
        store.lies = {"look": look, "claim": claim, "put": put, "renew": renew}
        async with open_fleet(1, source, store) as (session,):
            token = await session.get_access_token()
            assert token
            assert trio.current_time() <= 80.0
            await trio.sleep(100.0 + 45.0)
            assert session.get_access_token_nowait() != token
            gaps = [b - a for a, b in zip(source.sent, source.sent[1:], strict=False)]
            assert min(gaps) >= 1.0
            assert len(source.sent) <= 4
            assert len(store.asked) <= 30 * trio.current_time()

    run_virtually(main)


async def test_a_synchronous_store_is_logged_as_failing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A store with synchronous methods is logged as failing, and callers still get tokens."""

    class Synchronous:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            return lambda *args, **kwargs: None

    source = make_source()
    store: Any = Synchronous()
    async with SharedTokenManager(source, store) as manager:
        async with AnonymousSession(source.config, manager) as session:
            assert await session.get_access_token() == "token-1"
            await trio.sleep(10.0)
            session.invalidate("token-1")
            assert await session.get_access_token() == "token-2"
    assert levels(caplog)[0] == "WARNING"
    of_the_store = [text for text in caplog.messages if "token store" in text]
    assert len(of_the_store) == 2
    assert "closing the token store raised TypeError" in caplog.text
