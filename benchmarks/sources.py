"""Where sessions and peers get their tokens from: no network, so that it costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_anon_session import Config, TokenInfo

if TYPE_CHECKING:
    from trio_anon_session import TokenRequestOptions

CONFIG = Config(client_id="id", client_secret="secret")


class Grants:
    """A token manager that grants at once, or when it is let.

    Attributes:
        sent: how many grants were asked for.
        gate: each grant waits until this is set, which it is.
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
