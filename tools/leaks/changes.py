"""The search for leaks of secrets that change: lives with each way to authenticate.

Servers echo the credentials of the requests, or parts of them.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from urllib.parse import parse_qsl

import attrs
import httpx
import trio
from hypothesis import strategies as st

from tests.helpers import run_virtually
from trio_anon_session import AnonymousSession, Config, TokenManager
from trio_anon_session._authentication import AssertionRequest
from trio_anon_session._config import authentication_of
from trio_anon_session.testing import Client, TokenServer

from .canaries import SPELLINGS, Echo, echoes, good_answer
from .hunt import ROOT, Shown, copy_to, listening, look_at_errors, open_client
from .traces import Traces
from .ways import CHANGES, KEYS, KINDS, METHODS, WITH_SECRET, Source, wrong_attempts

PARTS = (
    "all",
    "signing input",
    "header",
    "payload",
    "signature",
    "end",
    "padded",
    "standard alphabet",
    "base64 again",
    "an old one",
)
# With this id, base64 of only the secret is no part of the Basic credentials.
CLIENT_ID = "abcd"
TOKEN = "tokenOfALifeWithChanges"


@attrs.frozen
class ChangingLife:
    """The conditions of a session whose client's secret changes, as plain data.

    Attributes:
        kind: the kind of the secret's source.
        key: the kind of its key.
        password: the password of its key, if it is a file or text.
        method: the method, for a secret.
        seed: selects the secrets.
        changes: what happens to the secret, in order.
        grant: how the server answers token requests; None: as a server should.
        revocation: how it answers revocations.
        metadata: how it answers requests for metadata.
        part: the part of the credentials that it echoes.
        has_mistakes: whether the user also passes secrets for other arguments.
    """

    kind: str = "secret file"
    key: str = "P-256"
    password: str | None = None
    method: str = "client_secret_post"
    seed: int = 0
    changes: tuple[str, ...] = ("rotate",)
    grant: Echo | None = None
    revocation: Echo | None = None
    metadata: Echo | None = None
    part: str = "all"
    has_mistakes: bool = False


changing_lives = st.builds(
    ChangingLife,
    kind=st.sampled_from(KINDS),
    key=st.sampled_from([*KEYS]),
    password=st.sampled_from([None, "pass word/ö of the key"]),
    method=st.sampled_from(METHODS),
    seed=st.integers(0, 10**6),
    changes=st.lists(st.sampled_from(CHANGES), max_size=3).map(tuple),
    grant=st.none() | echoes,
    revocation=st.none() | echoes,
    metadata=st.none() | echoes,
    part=st.sampled_from(PARTS),
    has_mistakes=st.integers(0, 5).map(lambda number: number == 0),
)


def hunt_changes(life: ChangingLife) -> tuple[Shown, Traces]:
    """Run a life, and return all that was shown, and the traces of its secrets."""
    shown, traces = Shown(), Traces()
    traces.add(TOKEN)
    with tempfile.TemporaryDirectory() as folder, listening(shown):
        run_virtually(_live, life, Path(folder), shown, traces)
    return shown, traces


def part_of(credential: str, part: str, old: str) -> str:
    """Return the part of a credential that a server echoes."""
    header, _, rest = credential.partition(".")
    payload, _, signature = rest.partition(".")
    parts = {
        "signing input": f"{header}.{payload}",
        "header": header,
        "payload": payload,
        "signature": signature or credential,
        "end": credential[-40:],
        "padded": signature + "=" * (-len(signature) % 4),
        "standard alphabet": credential.replace("-", "+").replace("_", "/"),
        "base64 again": base64.b64encode(credential.encode()).decode().rstrip("="),
        "an old one": old,
    }
    return parts.get(part, credential) or credential


_IN_DOCUMENT = {
    "extra": "issuer",
    "scope": "token_endpoint",
    "token_type": "token_endpoint_auth_methods_supported",
}
"""The member of the metadata that echoes, by the place of the echo."""


def _metadata(place: str, said: str) -> bytes:
    """Return an answer with metadata in which one member echoes."""
    document = {"issuer": ROOT, "token_endpoint": f"{ROOT}/oauth2/token"}
    document[_IN_DOCUMENT[place]] = said
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Server:
    """A server that echoes.

    Attributes:
        seen: the credentials that it has seen.
    """

    def __init__(self, life: ChangingLife, traces: Traces) -> None:
        self._life = life
        self._traces = traces
        self.seen: list[str] = []

    def answer_to(self, sent: bytes) -> bytes:
        """Return the answer to a request."""
        life = self._life
        head, _, body = sent.decode().partition("\r\n\r\n")
        form = dict(parse_qsl(body))
        credential = form.get("client_assertion") or form.get("client_secret") or ""
        for line in head.split("\r\n"):
            if line.lower().startswith("authorization: basic "):
                credential = line.rpartition(" ")[2]
        if credential:
            # Parts of an assertion are secret, too.
            self._traces.add(credential, *filter(None, credential.split(".")))
            self.seen.append(credential)
        said = part_of(credential, life.part, self.seen[0] if self.seen else "")
        if head.startswith("GET"):
            echo, said = life.metadata, self.seen[-1] if self.seen else ""
            if echo is not None and echo.place in _IN_DOCUMENT:
                return _metadata(echo.place, SPELLINGS[echo.spelling](said))
        elif head.startswith("POST /oauth2/token"):
            echo = life.grant
        else:
            echo = life.revocation
        return good_answer(TOKEN) if echo is None else echo.answer(said, TOKEN)


async def _live(life: ChangingLife, folder: Path, shown: Shown, traces: Traces) -> None:
    source = Source(life.kind, life.key, life.password, life.seed, folder, traces)
    for attempt in wrong_attempts(source) if life.has_mistakes else ():
        with look_at_errors("an error of settings", shown):
            shown.look_at("an object of wrong settings", attempt())
    settings = source.settings
    if life.kind in WITH_SECRET:
        settings["auth_method"] = life.method
    with look_at_errors("an error of a config", shown):
        config = Config(client_id=CLIENT_ID, api_root_url=ROOT, max_retries=0, **settings)
        await _use(config, source, life, shown, traces)


async def _use(
    config: Config, source: Source, life: ChangingLife, shown: Shown, traces: Traces
) -> None:
    server = _Server(life, traces)
    events: list[object] = []
    request = AssertionRequest(CLIENT_ID, config.token_url)
    async with (
        open_client(server.answer_to) as client,
        TokenManager(config, http_client=client) as manager,
        AnonymousSession(config, manager, observers=[events.append]) as session,
    ):
        for change in ("", *life.changes):
            if change:
                source.change(change)
            with (
                trio.move_on_after(5.0),
                look_at_errors("an error of credentials", shown),
            ):
                await authentication_of(config).credentials(request)
            # The short limits cancel while a source hangs, and while the server answers.
            for limit in (0.5, 40.0):
                with trio.move_on_after(limit), look_at_errors("an error of a grant", shown):
                    await manager.get_tokens_client_credentials_grant()
                with trio.move_on_after(limit), look_at_errors("an error of a revocation", shown):
                    await manager.revoke_tokens(TOKEN)
            with trio.move_on_after(100.0), look_at_errors("an error of a getter", shown):
                session.invalidate(await session.get_access_token())
            with look_at_errors("an error of discovery", shown):
                changed = {name: getattr(config, name) for name in ("client_secret", "auth_method")}
                await Config.discover(ROOT, client_id=CLIENT_ID, http_client=client, **changed)
            for name, thing in (
                ("a config", config),
                ("a manager", manager),
                ("a session", session),
                ("a way to authenticate", authentication_of(config)),
                ("statistics", session.statistics()),
            ):
                shown.look_at(name, thing)
                copy_to(shown, name, thing)
        shown.look_at("states", session.states)
    for event in events:
        shown.look_at(f"the event {type(event).__name__}", event)
    await _meet_the_kit(config, shown)


async def _meet_the_kit(config: Config, shown: Shown) -> None:
    """Send the credentials to a `TokenServer`, and look at what it records."""
    kit = TokenServer(clients=[Client(client_id=CLIENT_ID, client_secret="not-this-one")])
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(kit)) as client,
        TokenManager(config, http_client=client) as manager,
    ):
        with look_at_errors("an error of the kit", shown):
            await manager.get_tokens_client_credentials_grant()
    shown.look_at("records of the kit", [*kit.requests])
    shown.look_at("a server of the kit", kit)
