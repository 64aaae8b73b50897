"""Helpers for tests of the promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_anon_session import AnonymousSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def _get_nowait(session: AnonymousSession) -> str:
    return session.get_access_token_nowait()


async def _exchange(session: AnonymousSession) -> str:
    return (await session.exchange_token("x")).access_token


ASKS: dict[str, Callable[[AnonymousSession], Awaitable[str]]] = {
    "get": AnonymousSession.get_access_token,
    "nowait": _get_nowait,
    "exchange": _exchange,
}
"""The ways in which a caller asks for a token."""
