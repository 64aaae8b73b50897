"""Tests of stores whose answers contain secrets: nothing that a person reads shows them."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

from tests.helpers import make_config, traceback_with_locals
from trio_anon_session import AnonymousSession, TokenInfo
from trio_anon_session.stores import (
    Look,
    SharedTokenManager,
    StoredFailure,
    StoredToken,
    StoreError,
)
from trio_anon_session.stores._records import mark_of, token_record

from .faulty import EVERYTHING, FaultyStore, make_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

CLIENT_SECRET = "Sx7canarySecretQ9"
OWN, STORED = "Vw3canaryOwnZ5", "Ug8canaryStoredY6"
CONFIG = make_config(client_secret=CLIENT_SECRET, max_retries=0, min_refresh_interval=0.1)
SECRETS = {
    "client secret": CLIENT_SECRET,
    "own token": OWN,
    "stored token": STORED,
    "own token in base64": base64.b64encode(OWN.encode()).decode(),
    "token in a path": f"host/{OWN}/1",
}
RECORD = token_record(TokenInfo.from_answer(STORED, 3600.0, 0.0, CONFIG), CONFIG, "host/1/2")
FAILURE = {"count": 1, "status_code": 503, "message": "busy"}
FAILED = StoredFailure(json.dumps(FAILURE), 10**9, 60.0)
# The stored token has expired for sessions, but its record still contains it.
TOKEN = StoredToken(RECORD, mark_of(STORED), 3600.0, 3600.0)


def _in_token(field: str) -> Callable[[str], dict[str, Any]]:
    def put(text: str) -> dict[str, Any]:
        record = json.dumps(json.loads(RECORD) | {field: text})
        return {"look": Look(7, token=attrs.evolve(TOKEN, record=record, age=1.0))}

    return put


def _in_failure(field: str) -> Callable[[str], dict[str, Any]]:
    def put(text: str) -> dict[str, Any]:
        record = json.dumps(FAILURE | {field: text})
        return {"look": Look(7, token=TOKEN, failure=attrs.evolve(FAILED, record=record))}

    return put


FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "owner": lambda text: {"look": Look(7, token=TOKEN, owner=text, leased_for=1.0)},
    "mark": lambda text: {"look": Look(7, token=attrs.evolve(TOKEN, mark=text, age=1.0))},
    "dead": lambda text: {"look": Look(7, token=TOKEN, dead=frozenset([text]))},
    "fence": lambda text: {"look": Look(7, token=TOKEN), "claim": text},
    **{
        f"token's {field}": _in_token(field)
        for field in ("owner", "token_type", "scope", "purpose", "format", "extra")
    },
    **{
        f"failure's {field}": _in_failure(field)
        for field in ("message", "error", "error_description", "request_id", "next_step", "other")
    },
}


def shown_by(error: BaseException) -> str:
    """Return the texts of an error: message, attributes and traceback with locals."""
    return "\n".join([str(error), repr(error), repr(vars(error)), *traceback_with_locals(error)])


def check(shown: str) -> None:
    """Check that a text contains no secret."""
    for name, text in SECRETS.items():
        assert text not in shown, name


async def _show(ask: Callable[[], Any], texts: list[str]) -> None:
    """Collect what a call shows: its result, or its error."""
    try:
        texts.append(repr(await ask()))
    except trio.Cancelled:
        raise
    except Exception as error:
        texts.append(shown_by(error))


async def _shown_with(store: FaultyStore, change: Callable[[], object]) -> str:
    """Return what a process with a token of its own shows after the store has changed."""
    source = make_source(latency=0.1)
    source.config = CONFIG
    texts: list[str] = []
    source.outcomes = [TokenInfo.from_answer(OWN, 3600.0, 0.0, CONFIG)]
    async with SharedTokenManager(source, store) as manager:
        async with AnonymousSession(CONFIG, manager) as session:
            assert await session.get_access_token() == OWN
            # No token was dropped, so the manager still knows this one.
            change()
            looks: list[Callable[[], Any]] = [
                manager.look_at_store,
                manager._link.look,
                manager.get_tokens_client_credentials_grant,
            ]
            for ask in looks:
                with trio.move_on_after(5.0):
                    await _show(ask, texts)
            texts += [repr(manager), str(manager.trouble), repr(session.statistics())]
            await _show(manager.check_store, texts)
            session.invalidate(OWN)
            await trio.sleep(3.0)
            texts += [str(manager.trouble), repr(session.statistics())]
            await _show(manager.look_at_store, texts)
    return "\n".join(texts)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("field", FIELDS)
async def test_no_text_of_an_answer_shows_a_secret(
    autojump_clock: MockClock, field: str, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A secret in any text of a store's answer appears in no repr, status, log record or error."""
    caplog.set_level(logging.DEBUG)
    store = FaultyStore()

    def change() -> None:
        store.lies = FIELDS[field](SECRETS[secret])

    check(await _shown_with(store, change))
    check(caplog.text)


# The process has never seen the stored token.
@pytest.mark.parametrize("secret", [name for name in SECRETS if name != "stored token"])
@pytest.mark.parametrize(
    "fails",
    [EVERYTHING, {"listen"}, {"wait"}, {"claim", "put"}],
    ids=["all", "listen", "wait", "writes"],
)
async def test_no_error_of_a_store_shows_a_secret(
    autojump_clock: MockClock, fails: set[str], secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The secret in a StoreError, whose message should have none, appears nowhere."""
    caplog.set_level(logging.DEBUG)
    store = FaultyStore()
    store.error = StoreError(f"it refuses {SECRETS[secret]}")

    def change() -> None:
        store.fails = fails

    check(await _shown_with(store, change))
    check(caplog.text)


async def test_the_failure_record_of_a_fleet_shows_no_token(autojump_clock: MockClock) -> None:
    """A record that a process leaves for the others does not contain a token of that process."""
    source, store = make_source(), FaultyStore()
    async with SharedTokenManager(source, store) as manager:
        token = await manager.get_tokens_client_credentials_grant()
        await manager._link.release(
            await manager._link.claim((await store.look(manager._link._name)).version) or 0,
            json.dumps(FAILURE | {"message": f"it quotes {token.access_token}"}),
            60.0,
        )
        failure = (await store.look(manager._link._name)).failure
    assert failure is not None
    assert token.access_token not in failure.record
    assert "it quotes ***" in failure.record
