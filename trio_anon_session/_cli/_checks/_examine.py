"""All checks in their order.

No check takes longer than the config's ``request_timeout``. After a failure, two seconds more
are spent to find out whether the server speaks the other one of http and https.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import trio

from ..._config import authentication_of, for_prefix, secrets_of
from ..._errors import TokenRequestError
from ..._exchange import make_client
from ..._manager import TokenManager
from ..._secrets import Secrets
from .._ending import MISCONFIGURED, REJECTED
from ._configuration import check_configuration
from ._credentials import advice_after_rejection, check_credentials, signed_by
from ._issuer import check_issuer
from ._network import check_connection, check_name, no_client, only_https, proxy_for, speaks_tls
from ._resource import check_origin, check_resource, check_revoked_token
from ._result import Check
from ._store import check_store
from ._token import check_clock, check_grant, check_lifetime, check_revocation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ..._config import Config
    from ..._token import TokenInfo
    from .._flags import Source

_REVOKE_TIMEOUT = 2.0
"""Seconds that an interrupted run waits for the revocation of its token."""


class Report:
    """Passes on each result without secrets, and skips what was not checked.

    Args:
        names: the names of all checks, in their order.
        say: called with each result.
        secrets: the secrets among the settings.
    """

    def __init__(
        self, names: Sequence[str], say: Callable[[Check], object], secrets: Secrets
    ) -> None:
        self._secrets = secrets
        self.config: Config | None = None
        self.token: TokenInfo | None = None
        self._names = names
        self._say = say
        self._done: list[str] = []

    def __call__(self, check: Check) -> bool:
        """Pass on a result, and return whether the next check makes sense."""
        self._done.append(check.name)
        # The config knows more secrets after each request, such as the assertions that were sent.
        secrets = self._secrets
        if self.config is not None:
            secrets = secrets.and_also(secrets_of(self.config))
        if self.token is not None:
            secrets = secrets.and_also(Secrets(self.token.access_token))
        self._say(check.scrubbed(secrets))
        return check.verdict != "failed"

    def skip_the_rest(self, reason: str) -> None:
        for name in self._names:
            if name not in self._done:
                self(Check(name, "skipped", reason))


async def examine(source: Source, url: str | None, say: Callable[[Check], object]) -> None:
    """Run the checks in their order, and pass the result of each to `say`.

    Args:
        source: the configuration.
        url: a protected resource to call with the token, or None.
        say: called with each result.
    """
    has_store = source.has_store
    check, settings = check_configuration(source)
    names = ["configuration", "credentials"]
    names += ["issuer"] if settings is not None and "issuer" in settings.given else []
    names += ["origin"] if url is not None else []
    names += ["store"] if has_store else []
    names += ["name", "connection", "grant", "lifetime", "clock"]
    names += ["resource"] if url is not None else []
    names += ["revocation"]
    names += ["revoked token"] if url is not None else []
    secrets = settings.secrets() if settings is not None else Secrets()
    report = Report(names, say, secrets)
    if settings is None or check.verdict == "failed":
        report(check)
        report.skip_the_rest("the configuration must be fixed first")
        return
    config = report.config = settings.config()
    report(check)
    check, is_usable = await check_credentials(settings, config)
    report(check)
    if not is_usable:
        report.skip_the_rest("the credentials must be fixed first")
        return
    if config.issuer is not None:
        check, found = await check_issuer(settings, config)
        report(check)
        if found is None:
            report.skip_the_rest("the issuer must be fixed first")
            return
        config = report.config = found
    if url is not None and not report(check_origin(url, config)):
        report.skip_the_rest("--url must be fixed first")
        return
    if has_store:
        check = await check_store(source, config)
        # A store that fails for another reason does not prevent token requests.
        if not report(check) and check.exit_code == MISCONFIGURED:
            report.skip_the_rest("the store must be configured first")
            return
    await _send(config, advice_after_rejection(settings), url, report)


async def _send(config: Config, advice: str | None, url: str | None, report: Report) -> None:
    """Run the checks that send something to the server of the tokens, or to the URL."""
    context = authentication_of(config).ssl_context()
    try:
        client = make_client(context)
    except Exception as error:
        report(_with_variables(no_client(error), config))
        report.skip_the_rest("there is no HTTP client")
        return
    token_url = httpx.URL(config.token_url)
    proxy = proxy_for(token_url)
    limit = config.request_timeout
    check = await check_name(token_url, proxy, limit)
    if not report(_with_variables(check, config)):
        report.skip_the_rest("the host name cannot be resolved")
        return
    check = await check_connection(token_url, proxy, limit, context)
    if not report(_with_variables(check, config)):
        report.skip_the_rest("there is no connection")
        return
    dates: list[str | None] = []
    async with client, TokenManager(config, http_client=client) as manager:
        client.event_hooks = {"response": [_date_keeper(dates)]}
        sent_at = time.time()
        check, token = await check_grant(manager, config, advice)
        clock = check_clock(dates[0] if dates else None, sent_at, time.time(), signed_by(config))
        if token is None:
            if (
                token_url.scheme == "http"
                and proxy is None
                and check.exit_code != REJECTED
                and await speaks_tls(token_url)
            ):
                check = _with_variables(only_https(check), config)
            report(check)
            report(clock)
            report.skip_the_rest("there is no token")
            return
        report.token = token
        is_accepted = False
        async with _revoked_on_error(manager, token.access_token):
            report(check)
            report(check_lifetime(token.lifetime, config))
            report(clock)
            if url is not None:
                check = await check_resource(client, url, token.access_token, limit)
                report(check)
                # A redirect or a 404 does not show whether the API checked the token.
                is_accepted = check.verdict == "ok"
        is_revoked = report(await check_revocation(manager, config, token.access_token))
        if url is not None and is_accepted and is_revoked:
            report(await check_revoked_token(client, url, token.access_token, limit))
        report.skip_the_rest("the API did not accept the token, or the token was not revoked")


def _with_variables(check: Check, config: Config) -> Check:
    """Return a check whose advice names the variables from which the config was read."""
    return attrs.evolve(check, advice=check.advice and for_prefix(check.advice, config))


@asynccontextmanager
async def _revoked_on_error(manager: TokenManager, access_token: str) -> AsyncIterator[None]:
    """Revoke a token if Ctrl-C or a closed output pipe ends the block."""
    try:
        yield
    except BaseException:
        with (
            trio.move_on_after(_REVOKE_TIMEOUT, shield=True),
            contextlib.suppress(TokenRequestError),
        ):
            await manager.revoke_tokens(access_token)
        raise


def _date_keeper(dates: list[str | None]) -> Callable[[httpx.Response], Any]:
    async def keep(response: httpx.Response) -> None:  # noqa: ASYNC124  # httpx awaits it
        dates.append(response.headers.get("Date"))

    return keep
