"""The check of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..._errors import ConfigError
from ..._manager import TokenManager
from ...stores import SharedTokenManager, StoreError
from ...stores._sealing import NO_KEY, WRONG_KEYS
from .._ending import MISCONFIGURED
from .._store import STORE_KEY
from ._result import Check

if TYPE_CHECKING:
    from ..._config import Config
    from .._flags import Source

_NEWS_ADVICE = (
    "Allow the store's user to publish and subscribe. Until then, each process polls the store "
    "for invalidated tokens twice a second."
)
_STORE_ADVICE = {
    "sqlite": (
        "Check that the directory exists, that only this user can write to it, and that the path "
        "does not belong to another file."
    ),
    "redis": ("Check host, port, database, user and password, and that the user may run scripts."),
}
_KEY_ADVICE = (
    f"Use the encryption key of the other processes ({STORE_KEY} or --store-key-file). If they "
    "use no key, use no key either, or another database."
)


async def check_store(source: Source, config: Config) -> Check:
    """Check that a store can be opened, written and read, and that its clock runs."""
    name = "store"
    try:
        settings = source.store_settings()
        assert settings is not None
        store, place = settings.make(), settings.place
    except ConfigError as error:
        return Check(name, "failed", str(error), None, MISCONFIGURED)
    problem = None
    limit = config.request_timeout
    # This manager sends no token request; it only uses the store.
    async with SharedTokenManager(TokenManager(config), store) as manager:
        began_at = trio.current_time()
        try:
            with trio.fail_after(limit):
                no_news = await manager.check_store()
                took = trio.current_time() - began_at
                status = await manager.look_at_store()
        except trio.TooSlowError:
            problem = f"no answer within {limit:g} s"
        except StoreError as error:
            problem = str(error)
    if problem is not None:
        found = f"{place.shown} cannot be used: {problem}"
        is_sealed = problem in (NO_KEY, WRONG_KEYS)
        return Check(name, "failed", found, _KEY_ADVICE if is_sealed else _STORE_ADVICE[place.kind])
    content = (
        f"token {status.fingerprint}, {status.age:.0f} s old"
        if status.fingerprint is not None
        else "no token for this configuration"
    )
    found = f"{place.shown} answered in {took:.2f} s; it contains {content}"
    # The exposure comes first because it is the more serious problem.
    troubles = [place.exposure] if place.exposure is not None else []
    if no_news is not None:
        troubles.append((f"it sends no notifications: {no_news}", _NEWS_ADVICE))
    if not troubles:
        return Check(name, "ok", found)
    words, advice = zip(*troubles, strict=True)
    return Check(name, "warning", "; ".join((found, *words)), " ".join(advice))
