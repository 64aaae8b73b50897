"""Sources of tokens without a network, so that they cost nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_anon_session import Config, TokenInfo

if TYPE_CHECKING:
    from trio_anon_session import TokenRequestOptions

CONFIG = Config(client_id="id", client_secret="secret")


class Grants:
    """A token manager that returns a token immediately, or when its gate opens.

    Attributes:
        sent: number of token requests.
        gate: each request waits until this event is set; it is set at first.
    """

    def __init__(self, config: Config = CONFIG, *, lifetime: float = 3600.0) -> None:
        self.config = config
        self.lifetime = lifetime
        self.sent = 0
        self.gate = trio.Event()
        self.gate.set()

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        self.sent += 1
        sent_at = trio.current_time()
        await self.gate.wait()
        return TokenInfo.from_answer(f"token-{self.sent}", self.lifetime, sent_at, self.config)

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        await trio.lowlevel.checkpoint()
