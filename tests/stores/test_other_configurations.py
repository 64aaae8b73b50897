"""Tests of tokens of another configuration, or of a later version, in the same store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tests.helpers import make_config
from trio_anon_session import AssertionFile, SecretFile, TokenInfo
from trio_anon_session.stores import MemoryStore, StoredToken
from trio_anon_session.stores._records import mark_of, name_of, read_token_record, token_record

from .faulty import get_all, levels, make_source, open_fleet, use

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_another_configurations_token_is_neither_taken_nor_overwritten(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If two configs share a name but not secret parameters, the second gets its own tokens."""
    one = make_source(lifetime=60.0, extra_params={"password": "a"})
    other = make_source(lifetime=60.0, extra_params={"password": "b"})
    assert name_of(one.config) == name_of(other.config)
    other.granted = 100
    store = MemoryStore()
    async with open_fleet(2, one, store) as ones, open_fleet(2, other, store) as others:
        assert await get_all(ones) == ["token-1"] * 2
        assert set(await get_all(others)) <= {"token-101", "token-102"}
        assert levels(caplog) == ["WARNING"] * 2
        assert (
            "another configuration's token (its token request has other parameters)" in caplog.text
        )
        await use([*ones, *others], 300)
        assert {s.statistics().failures for s in [*ones, *others]} == {0}
        assert min(int(s.get_access_token_nowait()[6:]) for s in others) > 100
        assert max(int(s.get_access_token_nowait()[6:]) for s in ones) < 100


class _Later(MemoryStore):
    """A store in which tokens look as if a later version of this package had put them there."""

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        record = json.dumps(json.loads(token.record) | {"format": 2, "access_token": ["parts"]})
        return await super().put(name, fence, attrs.evolve(token, record=record))


async def test_a_token_of_a_later_version_is_not_replaced(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Processes that cannot read a newer version's token get their own, and log that once."""
    source, store = make_source(), _Later()
    async with open_fleet(3, source, store) as sessions:
        assert set(await get_all(sessions)) == {"token-1", "token-2", "token-3"}
        assert levels(caplog) == ["WARNING"] * 2
        assert "token of a newer version (this version cannot read it)" in caplog.text
        seen = await store.look(name_of(source.config))
        assert seen.token is not None
        assert seen.token.mark == mark_of("token-1")


@pytest.mark.parametrize(
    "settings",
    [
        {"client_id": "other"},
        {"api_root_url": "https://other.example"},
        {"scope": "a"},
        {"box_subject_type": "user", "box_subject_id": "7"},
        {"extra_params": {"audience": "a"}},
        {"extra_params": {"password": "a"}},
    ],
)
def test_configs_for_other_tokens_have_other_names(settings: dict[str, Any]) -> None:
    """Configs that request different tokens have different names in a store."""
    assert name_of(make_config()) != name_of(make_config(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"client_secret": "rotated"},
        {"client_secret": SecretFile("/no/such/file")},
        {"client_secret": None, "auth_method": AssertionFile("/no/such/file")},
        {"scope": "b a"},
        {"stale_buffer": 1.0, "expired_buffer": 0.0, "refresh": "on_request"},
        {"auth_method": "client_secret_basic"},
        {"max_retries": 0, "request_timeout": 1.0},
    ],
)
def test_configs_for_the_same_tokens_share_them(settings: dict[str, Any]) -> None:
    """Configs that differ only in the credentials or in settings of the client share tokens."""
    one = make_config(scope="a b")
    other = make_config(**({"scope": "a b"} | settings))
    assert name_of(one) == name_of(other)
    record = token_record(TokenInfo.from_answer("a-token", 60.0, 0.0, one), one, "x")
    assert read_token_record(record, 0.0, other) is not None


async def test_each_process_applies_its_own_buffers_to_a_token(autojump_clock: MockClock) -> None:
    """Each process applies the buffers of its own config to a shared token."""
    one, other = make_source(), make_source(stale_buffer=100.0, expired_buffer=0.0)
    store = MemoryStore()
    async with open_fleet(1, one, store) as (first,), open_fleet(1, other, store) as (second,):
        assert (await first.exchange_token("x")).stale_at == 3000.0
        taken = await second.exchange_token("x")
        assert taken.expires_at == 3600.0
        assert 3500.0 <= taken.stale_at <= 3510.0
