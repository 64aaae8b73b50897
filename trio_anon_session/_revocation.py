"""`Revocation`: the revocation of one token at the server, with retries."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import trio

from ._backoff import RetrySchedule
from ._config import Config, secrets_of
from ._errors import (
    RevocationError,
    SessionClosedError,
    TokenRequestError,
    as_cause,
    message_of,
)
from ._nursery import outcome_of
from ._secrets import Secrets

if TYPE_CHECKING:
    from ._manager import TokenSource
    from ._token import TokenInfo, TokenRequestOptions


class Revocation:
    """The revocation of one token, in progress or ended.

    Attributes:
        token: the token.
        options: sent with the request.
        error: the error if the revocation has failed, or None.
    """

    __slots__ = ("_cause", "_ended", "_succeeded", "error", "options", "token")

    def __init__(self, token: TokenInfo, options: TokenRequestOptions | None = None) -> None:
        self.token = token
        self.options = options
        self.error: RevocationError | None = None
        self._cause: Exception | None = None
        self._succeeded = False
        self._ended = trio.Event()

    async def run(self, manager: TokenSource, config: Config) -> None:
        """Send requests until the token is revoked, or until a round of attempts has failed."""
        schedule = RetrySchedule(config)
        try:
            for attempt in itertools.count(1):
                cause = await outcome_of(_attempt, manager, self.token, self.options)
                if not isinstance(cause, Exception):
                    self._succeeded = True
                    return
                secrets = secrets_of(config).and_also(Secrets(self.token.access_token))
                error = _revocation_error(cause, attempt, secrets)
                pause = schedule.next_pause(attempt, error)
                if pause is None:
                    self.error, self._cause = error, as_cause(cause)
                    return
                await trio.sleep(pause)
        finally:
            self._ended.set()

    async def wait(self) -> None:
        """Wait for the end of the revocation. Raise if it has failed.

        Raises:
            RevocationError: all attempts failed.
            SessionClosedError: the session ended before the revocation.
        """
        await self._ended.wait()
        if self.error is not None:
            raise self.error.copy_with() from self._cause
        if not self._succeeded:
            raise SessionClosedError


# A traceback can show the arguments of each frame, so no argument is the text of the token.
async def _attempt(
    manager: TokenSource, token: TokenInfo, options: TokenRequestOptions | None
) -> None:
    await manager.revoke_tokens(token.access_token, options)


def _revocation_error(cause: Exception, attempts: int, secrets: Secrets) -> RevocationError:
    if isinstance(cause, RevocationError):
        return cause.copy_with(attempts=attempts)
    if not isinstance(cause, TokenRequestError):
        return RevocationError(
            f"the token could not be revoked: the token manager raised {type(cause).__name__}",
            attempts=attempts,
        )
    # The message of a foreign token manager may contain a secret.
    said = secrets.quote(message_of(as_cause(cause)))
    error = RevocationError(f"the token could not be revoked: {said}")
    facts = {
        name: secrets.quote(value) if isinstance(value, str) else value
        for name, value in vars(cause).items()
    }
    error.__dict__.update(facts, attempts=attempts, _is_cause=False)
    return error
