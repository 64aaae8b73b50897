"""`Attempts`: how a process takes the lease, and requests a token under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._nursery import Unwrapped
from .._token import TokenInfo
from ._access import StoreFailedError
from ._link import FAREWELL, moment

if TYPE_CHECKING:
    from .._lifecycle import Moment
    from .._manager import TokenSource
    from .._nursery import Background
    from .._token import TokenRequestOptions
    from ._link import StoreLink


class _ClaimInFlight:
    """A claim that goes on when its caller is cancelled, because its lease has to be given back."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope(shield=True)
        self.is_over = trio.Event()
        self.is_abandoned = False
        self.fence: int | None = None
        self.has_failed = False


class Attempts:
    """Requests tokens for the fleet.

    Args:
        link: the store.
        manager: the endpoint.
        background: where claims go on that nobody waits for.
    """

    def __init__(self, link: StoreLink, manager: TokenSource, background: Background) -> None:
        self._link = link
        self._manager = manager
        self._background = background

    async def claim(self, version: int) -> int | None:
        """Take the lease, and return its fence, or None if another process was faster.

        If this is cancelled, a lease that was taken is given back.

        Raises:
            StoreFailedError: the store does not answer.
        """
        if not self._background.is_open:
            return await self._link.claim(version)
        claim = _ClaimInFlight()
        self._background.start_soon(self._finish_claim, claim, version)
        try:
            await claim.is_over.wait()
        except trio.Cancelled:
            claim.is_abandoned = True
            claim.scope.deadline = trio.current_time() + FAREWELL
            await self._give_back(claim)  # noqa: ASYNC102  # shields itself
            raise
        if claim.has_failed:
            raise StoreFailedError
        return claim.fence

    async def _finish_claim(self, claim: _ClaimInFlight, version: int) -> None:
        try:
            with claim.scope:
                claim.fence = await self._link.claim(version)
        except StoreFailedError:
            claim.has_failed = True
        claim.is_over.set()
        if claim.is_abandoned:
            await self._give_back(claim)

    async def _give_back(self, claim: _ClaimInFlight) -> None:
        """Give back the lease of a claim that nobody waits for, if it is known by now."""
        if claim.fence is not None:
            with trio.move_on_after(FAREWELL, shield=True):
                await self._link.release(claim.fence)

    async def request(
        self, fence: int, failures: int, options: TokenRequestOptions | None
    ) -> tuple[object, bool]:
        """Request a token, and put it into the store or tell the others why there is none.

        Args:
            fence: of the lease.
            failures: how many attempts of the fleet have failed in a row.
            options: what to send along.

        Returns:
            The answer, and whether it is the fleet's: not if it is a token that counts for nothing
            there, because the lease was lost meanwhile.
        """
        began = moment()
        try:
            with Unwrapped():
                outcome = await self._ask_and_renew(fence, options)
            is_kept = True
            at = moment()
            if isinstance(outcome, TokenInfo):
                is_kept = await self._link.put(fence, outcome, _age(outcome, began, at))
            else:
                record, pause = self._link.claimant.failure_to_leave(failures, outcome, at)
                await self._link.release(fence, record, pause)
        except BaseException:
            with trio.move_on_after(FAREWELL, shield=True):
                await self._link.release(fence)
            raise
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                # A frame and an exception that hold each other are left to the collector.
                del outcome
        return outcome, is_kept

    async def _ask_and_renew(self, fence: int, options: TokenRequestOptions | None) -> object:
        """Return what the inner manager answers or raises, renewing the lease meanwhile."""
        outcome: object = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.renew_for_ever, fence)
            try:
                outcome = await self.ask_endpoint(options)
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: ASYNC103  # raised outside: here, in a group
                outcome = error
            nursery.cancel_scope.cancel()
        try:
            return outcome
        finally:
            # As above.
            del outcome

    async def ask_endpoint(self, options: TokenRequestOptions | None) -> object:
        """Return what the inner manager answers."""
        self._link.claimant.send(moment())
        return await self._manager.get_tokens_client_credentials_grant(options)


def _age(token: TokenInfo, began: Moment, at: Moment) -> float:
    """Return for how long a token has been valid, on the clock that says more."""
    age = at.now - token.sent_at
    if at.wall is not None and began.wall is not None:
        age = max(age, at.wall - began.wall)
    return age
