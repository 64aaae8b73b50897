"""The search for leaks: the life of a session whose server echoes, and all that the session shows.

Each *sink* is one place where people, files or services see what a session shows.
"""

from __future__ import annotations

import copy
import io
import logging
import pickle
import pprint
import traceback
import warnings
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpcore
import httpcore2
import httpx
import httpx2
import trio
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import trio_anon_session
from tests.helpers import is_of_tests, run_virtually
from tests.http.kit import auth_of
from tests.stores.faulty import FaultyStore
from trio_anon_session import (
    AnonymousSession,
    Config,
    ConfigError,
    TokenManager,
    TokenRequestOptions,
)
from trio_anon_session.otel import OpenTelemetryObserver
from trio_anon_session.stores import SharedTokenManager

from .canaries import (
    CLIENT_ID,
    SECRET_CORE,
    TOKEN_CORE,
    Echo,
    echoes,
    good_answer,
    secrets,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

ROOT = "http://localhost"
PACKAGE = Path(trio_anon_session.__file__).parent
LOGGERS = (
    *("trio_anon_session", "httpx", "httpcore", "httpx2", "httpcore2"),
    *("hpack", "asyncio", "trio"),
)
PICKLERS: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
}


@attrs.frozen
class Life:
    """The conditions of a session, as plain data.

    Attributes:
        secret: the client's secret.
        token: the token that the server grants.
        grant: the answer to the first token request; None for success.
        revocation: the answer to revocations.
        resource: the answer of the API.
        auth_method: how the client authenticates.
        ends: how the life of the session ends.
        store: latency of the store of shared tokens in seconds; None for no store.
        http: the library of the client.
    """

    secret: str
    token: str
    grant: Echo | None
    revocation: Echo | None
    resource: Echo | None
    auth_method: str
    ends: str
    store: float | None = None
    http: ModuleType = httpx


lives = st.builds(
    Life,
    secret=secrets,
    token=tokens,
    grant=st.none() | echoes,
    revocation=st.none() | echoes,
    resource=st.none() | echoes,
    auth_method=st.sampled_from(["client_secret_post", "client_secret_basic"]),
    ends=st.sampled_from(["return", "exception", "interrupt"]),
    # With 0.0, a call is cancelled during the token request; with 0.6, during a call of the store.
    store=st.sampled_from([None, 0.0, 0.6]),
    http=st.sampled_from([httpx, httpx2]),
)
PLAIN = Life(
    secret=f"s3{SECRET_CORE}",
    token=f"t0{TOKEN_CORE}",
    grant=None,
    revocation=None,
    resource=None,
    auth_method="client_secret_post",
    ends="return",
)


class Shown:
    """A collection of all shown texts, by the name of the sink.

    Attributes:
        texts: the texts of each sink.
    """

    def __init__(self) -> None:
        self.texts: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, sink: str, text: str) -> None:
        """Add a text."""
        self.texts[sink].append(text)

    def look_at(self, name: str, thing: object) -> None:
        """Add all texts that an object of the library shows."""
        self.add(f"repr of {name}", repr(thing))
        self.add(f"str of {name}", f"{thing} {thing!s:>3}")
        self.add(f"pprint of {name}", pprint.pformat(thing))
        # Debuggers and error reporters show attributes too.
        self.add(f"attributes of {name}", repr(_attributes(thing)))

    def look_at_error(self, name: str, error: BaseException) -> None:
        """Add all texts that an exception shows: itself, its chain, its frames and their locals."""
        seen: set[int] = set()
        todo: list[BaseException | None] = [error]
        while todo:
            one = todo.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            part = name if one is error else f"{name}, chained"
            self.add(f"str of {part}", str(one))
            self.add(f"repr of {part}", repr(one))
            self.add(f"attributes of {part}", repr(vars(one)) + repr(one.args))
            self.add(f"notes of {part}", repr(getattr(one, "__notes__", None)))
            self.add(f"locals of {part}", _locals(one))
            self.add(f"traceback of {part}", "".join(traceback.format_exception(one)))
            todo += [one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                todo += one.exceptions


def _locals(error: BaseException, *, of: Path | None = None) -> str:
    """Return the local variables of all frames of an exception, as error reporters show them.

    This leaves out the frames of this module, which contain the secret.

    Args:
        error: the exception.
        of: the directory of the files whose frames count; None for all.
    """
    shown = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not is_of_tests(file) and (of is None or Path(file).is_relative_to(of)):
            shown.append(f"{file}:{line} {frame.f_locals!r}")
    return "\n".join(shown)


def _attributes(thing: object) -> dict[str, object]:
    """Return an object's private attributes, in ``__dict__`` or in slots, by name.

    Public attributes such as `TokenInfo.access_token` are read only on purpose.
    """
    names = set(getattr(thing, "__dict__", ()))
    for kind in type(thing).__mro__:
        names.update(getattr(kind, "__slots__", ()))
    return {
        name: getattr(thing, name, None)
        for name in names
        if name.startswith("_") and not name.startswith("__")
    }


class Wire:
    """A network for either library, on which every connection returns the chosen answer."""

    def __init__(self, answer_to: Callable[[bytes], bytes]) -> None:
        self._answer_to = answer_to

    async def connect_tcp(self, *args: Any, **settings: Any) -> _WireStream:
        """Return a connection that returns the chosen answer."""
        await trio.lowlevel.checkpoint()
        return _WireStream(self._answer_to)


class _WireStream:
    def __init__(self, answer_to: Callable[[bytes], bytes]) -> None:
        self._answer_to = answer_to
        self._sent = b""
        self._answer: bytes | None = None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's signature
        await trio.lowlevel.checkpoint()
        self._sent += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        # A caller may be cancelled here, and its traceback has the frames above.
        await trio.sleep(1.0)
        if self._answer is None:
            self._answer = self._answer_to(self._sent)
        piece, self._answer = self._answer[:max_bytes], self._answer[max_bytes:]
        return piece

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def get_extra_info(self, info: str) -> Any:
        return None


def open_client(answer_to: Callable[[bytes], bytes], http: ModuleType = httpx) -> Any:
    """Return a client of a library over this network, so that all code of httpcore runs."""
    core: Any = httpcore2 if http is httpx2 else httpcore
    transport = http.AsyncHTTPTransport()
    # The libraries have no public way to set the network.
    transport._pool = core.AsyncConnectionPool(network_backend=Wire(answer_to))
    return http.AsyncClient(transport=transport)


def hunt(life: Life) -> Shown:
    """Run a life, and return all that was shown."""
    shown = Shown()
    with listening(shown):
        run_virtually(_live, life, shown)
    return shown


@contextmanager
def listening(shown: Shown) -> Iterator[None]:
    """Collect log records of all levels, and warnings."""
    streams = {name: io.StringIO() for name in LOGGERS}
    handlers = {name: logging.StreamHandler(stream) for name, stream in streams.items()}
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name, handler in handlers.items():
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        for name, handler in handlers.items():
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(levels[name])
    for name, stream in streams.items():
        shown.add(f"log of {name}", stream.getvalue())
    shown.add("warnings", "\n".join(str(warning.message) for warning in caught))


async def _live(life: Life, shown: Shown) -> None:
    _misconfigure(life.secret, shown)
    config = Config(
        client_id=CLIENT_ID,
        client_secret=life.secret,
        api_root_url=ROOT,
        auth_method=life.auth_method,  # type: ignore[arg-type]  # drawn from the two
        extra_params={"password": life.secret},
        max_retries=0,
    )
    grants = 0

    def answer_to(sent: bytes) -> bytes:
        nonlocal grants
        if sent.startswith(b"POST /oauth2/token"):
            grants += 1
            if grants == 1 and life.grant is not None:
                return life.grant.answer(life.secret, life.token)
            return good_answer(life.token)
        if sent.startswith(b"POST /oauth2/revoke"):
            if life.revocation is None:
                return good_answer("")
            is_basic = "basic" in life.revocation.spelling
            return life.revocation.answer(life.secret if is_basic else life.token, "")
        assert life.resource is not None
        return life.resource.answer(life.token, "")

    shown.look_at("a config", config)
    try:
        AnonymousSession(config).invalidate(life.token)
    except RuntimeError as error:
        shown.look_at_error("an error of invalidate", error)
    shown.look_at("options", TokenRequestOptions(ip="192.0.2.1"))
    events: list[object] = []
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    # Each life would add another pair of exit handlers.
    meters = MeterProvider([reader], shutdown_on_exit=False)
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = OpenTelemetryObserver(meters, tracers)
    store = FaultyStore()
    store.slow = life.store or 0.0
    try:
        async with (
            open_client(answer_to, life.http) as client,
            TokenManager(config, http_client=client) as own_manager,
            SharedTokenManager(own_manager, store) as shared_manager,
        ):
            manager = own_manager if life.store is None else shared_manager
            await _ask_directly(manager, life, shown)
            grants = 0
            session = AnonymousSession(config, manager, observers=[events.append, telemetry])
            telemetry.watch(session)
            async with session:
                await _use(session, client, life, shown)
                if life.ends == "exception":
                    raise KeyError("the body's own")
                if life.ends == "interrupt":
                    raise KeyboardInterrupt
            shown.look_at("a closed session", session)
            if life.store is not None:
                await _ask_another(own_manager, store, shown)
            try:
                await client.get(f"{ROOT}/2.0/files/1", auth=auth_of(life.http, session))
            except life.http.RequestError as error:
                shown.look_at_error("an error of a request after the end", error)
    except (KeyError, KeyboardInterrupt) as error:
        shown.look_at_error("the body's exception", error)
    data = reader.get_metrics_data()
    shown.add("metrics", data.to_json() if data is not None else "")
    shown.add("spans", "".join(span.to_json() for span in exporter.get_finished_spans()))
    for event in events:
        shown.look_at(f"the event {type(event).__name__}", event)


def _misconfigure(secret: str, shown: Shown) -> None:
    """Pass the secret for another field, as by mistake."""
    for field in ("api_root_url", "token_url", "auth_method", "scope", "refresh", "stale_buffer"):
        wrong: dict[str, Any] = {field: secret}
        try:
            Config(**({"client_id": "id", "client_secret": secret} | wrong))
        except ConfigError as error:
            shown.look_at_error("a ConfigError", error)
    for wrong in ({"client_secret": secret.encode()}, {"extra_params": {"x": [secret]}}):
        try:
            Config(**({"client_id": "id", "client_secret": secret} | wrong))
        except ConfigError as error:
            shown.look_at_error("a ConfigError", error)
    try:
        TokenRequestOptions(ip=secret)
    except ConfigError as error:
        shown.look_at_error("an error of options", error)


async def _ask_another(own_manager: TokenManager, store: FaultyStore, shown: Shown) -> None:
    """Take over a token from the store as another process, and meet a crash of the store."""
    async with SharedTokenManager(own_manager, store) as granting:
        try:
            await granting.get_tokens_client_credentials_grant()
            shown.look_at("a store", store.store)
            async with SharedTokenManager(own_manager, store) as manager:
                token = await manager.get_tokens_client_credentials_grant()
                shown.look_at("a token of the fleet", token)
                shown.look_at("a manager of another process", manager)
                store.fails, store.error = {"drop"}, SystemExit()
                manager.drop(token)
        except Exception as error:
            shown.look_at_error("an error of the fleet", error)
        except SystemExit as error:
            shown.look_at_error("a crash of a store", error)
        # Otherwise the store would crash again when the manager closes.
        store.fails = ()


async def _ask_directly(
    manager: TokenManager | SharedTokenManager, life: Life, shown: Shown
) -> None:
    """Use the token manager without a session, once cancelled and once to the end."""
    name = "a manager" if isinstance(manager, TokenManager) else "a shared manager"
    shown.look_at(name, manager)
    for limit in (0.5, 1e6):
        with trio.move_on_after(limit):
            try:
                await manager.get_tokens_client_credentials_grant()
            except BaseException as error:
                shown.look_at_error(_name_of(error, f"{name}'s grant"), error)
                if not isinstance(error, Exception):
                    raise
        with trio.move_on_after(limit):
            try:
                await manager.revoke_tokens(life.token)
            except BaseException as error:
                shown.look_at_error(_name_of(error, f"{name}'s revocation"), error)
                if not isinstance(error, Exception):
                    raise


def _name_of(error: BaseException, of: str) -> str:
    return f"{'a cancellation' if isinstance(error, trio.Cancelled) else 'an error'} of {of}"


async def _use(session: AnonymousSession, client: Any, life: Life, shown: Shown) -> None:
    """Get, show, use, invalidate and revoke tokens."""
    shown.look_at("a session", session)
    auth = auth_of(life.http, session)
    shown.look_at("an auth", auth)
    for _ in range(2):
        try:
            await session.get_access_token()
        except Exception as error:
            shown.look_at_error("a getter's error", error)
            copy_to(shown, "an error", error)
        shown.look_at("statistics", session.statistics())
        await trio.sleep(60.0)
    info = session.token_info
    if info is not None:
        shown.look_at("a token", info)
        copy_to(shown, "a token", info)
        await _send(session, client, auth, life, shown)
    copy_to(shown, "a session", session)
    copy_to(shown, "an auth", auth)
    copy_to(shown, "a config", session.config)
    shown.look_at("states", session.states)
    try:
        await session.revoke_tokens()
    except Exception as error:
        shown.look_at_error("an error of a revocation", error)
    shown.look_at("a session after a revocation", session)
    shown.look_at("statistics after a revocation", session.statistics())


async def _send(
    session: AnonymousSession,
    client: Any,
    auth: Any,
    life: Life,
    shown: Shown,
) -> None:
    """Send a request with the token. What its library logs about the answer is not scrubbed."""
    if life.resource is None:
        return
    names = ("httpx2", "httpcore2") if life.http is httpx2 else ("httpx", "httpcore")
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        await client.get(f"{ROOT}/2.0/files/1", auth=auth)
    except life.http.HTTPError as error:
        # It may quote the answer of the API. Only frames of this package must show nothing.
        shown.add(
            "locals of our frames in an error of a request",
            _locals(error, of=PACKAGE),
        )
    finally:
        for logger in loggers:
            logger.setLevel(logging.DEBUG)


@contextmanager
def look_at_errors(name: str, shown: Shown) -> Iterator[None]:
    """Look at the errors that the block raises. Only cancellations and the like propagate."""
    try:
        yield
    except Exception as error:
        shown.look_at_error(name, error)
    except BaseException as error:
        shown.look_at_error(f"{name}, cancelled", error)
        raise


def copy_to(shown: Shown, name: str, thing: object) -> None:
    """Try to pickle and to copy, and add the results."""
    for how, copier in PICKLERS.items():
        try:
            copied = copier(thing)
        except TypeError as error:
            shown.look_at_error(f"the error of {how} of {name}", error)
        else:
            shown.add(f"{how} of {name}", repr(copied))


def find_leaks(shown: Shown, leaks_in: Callable[[str], Iterable[str]]) -> dict[str, str]:
    """Return the first text of each sink in which there is a leak."""
    found: dict[str, str] = {}
    for sink, texts in shown.texts.items():
        for text in texts:
            if any(leaks_in(text)):
                found.setdefault(sink, text)
    return found
