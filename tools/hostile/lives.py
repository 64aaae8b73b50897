"""The lives of sessions with hostile peers."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import trio
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager
from tests.stores.faulty import FaultyStore
from tools.leaks.canaries import SECRET_CORE, TOKEN_CORE, leaks_in
from tools.leaks.hunt import Shown, find_leaks, listening
from trio_anon_session import AnonymousSession, Config, TokenManager, TokenRequestError
from trio_anon_session.stores import SharedTokenManager

from .peers import Answer, Lie, Network, Outcome, Transport, answers, lies, outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measuring import Steps

ROOT = "http://localhost"
TOKENS = f"t0{TOKEN_CORE}"


@attrs.frozen
class Life:
    """What the peers of a session send.

    Attributes:
        secret: the client's secret.
        server: the answers of the server in order; the last one is repeated.
        store: the answers of a store; None for no store.
        manager: the answers of a custom token manager; None for `TokenManager`.
    """

    secret: str
    server: tuple[Answer, ...]
    store: Lie | None
    manager: tuple[Outcome, ...]


lives = st.builds(
    Life,
    secret=st.sampled_from([f"s3{SECRET_CORE}", f"p@ss w/ö{SECRET_CORE}'%41"]),
    server=st.lists(answers, min_size=1, max_size=3).map(tuple),
    store=st.none() | lies,
    manager=st.just(()) | st.lists(outcomes, min_size=1, max_size=3).map(tuple),
)


class Cost:
    """The results of a life.

    Attributes:
        shown: all that the library showed.
        read: number of bytes that were read.
        unexpected: exceptions that no caller of the library expects.
        is_foreign: whether it used a custom token manager.
        is_looked_at: whether all that is shown is collected, which takes long.
    """

    def __init__(self, *, is_foreign: bool, is_looked_at: bool) -> None:
        self.is_foreign = is_foreign
        self.is_looked_at = is_looked_at
        self.shown = Shown()
        self.read = 0
        self.unexpected: list[BaseException] = []

    def look_at(self, name: str, thing: object) -> None:
        """Collect something that the library shows."""
        if not self.is_looked_at:
            return
        if isinstance(thing, BaseException):
            self.shown.look_at_error(name, thing)
        else:
            self.shown.look_at(name, thing)

    def leaks(self) -> dict[str, str]:
        """Return where the secret or the token was shown, and the text."""
        return find_leaks(self.shown, leaks_in)


def live(life: Life, steps: Steps | None = None) -> Cost:
    """Run a life in virtual time."""
    cost = Cost(is_foreign=bool(life.manager), is_looked_at=steps is None)
    network = Network(life.server, life.secret, TOKENS)
    instruments = [] if steps is None else [steps]
    with warnings.catch_warnings(), listening(cost.shown) if cost.is_looked_at else _quiet():
        trio.run(
            _live,
            life,
            network,
            cost,
            clock=trio.testing.MockClock(autojump_threshold=0.0),
            instruments=instruments,
        )
    return cost


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # A cancelled read from an endless network without checkpoints leaves generators of httpcore
    # behind, and Trio warns about them. Real networks make checkpoints.
    warnings.simplefilter("ignore", ResourceWarning)
    yield


class _Manager(FakeTokenManager):
    def __init__(self, config: Config, life: Life) -> None:
        super().__init__(config)
        self._says = [each.make(life.secret, TOKENS, config) for each in life.manager]
        self.outcomes = list(self._says)
        self.revoke_outcomes = [each for each in self._says if isinstance(each, Exception)]


async def _live(life: Life, network: Network, cost: Cost) -> None:
    config = Config(
        client_id="an app",
        client_secret=life.secret,
        api_root_url=ROOT,
        max_retries=1,
        request_timeout=5.0,
    )
    store = FaultyStore()
    if life.store is not None:
        store.lies = {"look": life.store.look(life.secret, TOKENS)}
    events: list[object] = []
    # In virtual time, a hang takes no time.
    with trio.fail_after(1e7):
        async with (
            httpx.AsyncClient(transport=Transport(network)) as client,
            TokenManager(config, http_client=client) as own,
        ):
            manager: Any = _Manager(config, life) if life.manager else own
            if life.store is None:
                await _use(config, manager, client, events, cost)
            else:
                async with SharedTokenManager(manager, store) as shared:
                    await _use(config, shared, client, events, cost)
                    cost.look_at("a shared manager", shared)
    for event in events:
        cost.look_at("an event", event)
    cost.read = network.read


async def _use(
    config: Config, manager: Any, client: httpx.AsyncClient, events: list[object], cost: Cost
) -> None:
    async with AnonymousSession(config, manager, observers=[events.append]) as session:
        for _ in range(2):
            await _try(cost, session.get_access_token)
            cost.look_at("statistics", session.statistics())
            await _try(cost, _request, client, session)
            await trio.sleep(100.0)
        await _try(cost, session.revoke_tokens)
        cost.look_at("a session", session)


async def _request(client: httpx.AsyncClient, session: AnonymousSession) -> None:
    """Call the API, and read only the part of its answer that the session's auth reads."""
    # httpx raises its own errors about an answer to the user's request. It keeps its
    # timeouts only on a real network.
    client.cookies.clear()
    with trio.move_on_after(50.0), contextlib.suppress(httpx.HTTPError):
        async with client.stream("GET", f"{ROOT}/2.0/files/1", auth=session.auth()):
            pass


async def _try(cost: Cost, call: Any, *args: Any) -> None:
    """Call a function, and collect what its exception shows."""
    try:
        await call(*args)
    except TokenRequestError as error:
        # Errors of a custom token manager are not scrubbed.
        if not cost.is_foreign:
            cost.look_at("an error", error)
    except Exception as error:
        cost.unexpected.append(error)
