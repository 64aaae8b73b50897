"""`Attempts`: takes the lease, and requests a token while holding it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._nursery import Unwrapped
from .._token import TokenInfo
from ._access import StoreFailedError
from ._link import RELEASE_TIMEOUT, moment

if TYPE_CHECKING:
    from .._lifecycle import Moment
    from .._manager import TokenSource
    from .._nursery import Background
    from .._token import TokenRequestOptions
    from ._link import StoreLink


class _ClaimInFlight:
    """A claim that continues when its caller is cancelled, so that its lease can be released."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope(shield=True)
        self.is_over = trio.Event()
        self.is_abandoned = False
        self.fence: int | None = None
        self.has_failed = False


class Attempts:
    """Token requests for the fleet.

    Args:
        link: sends requests to the store.
        manager: sends requests to the token endpoint.
        background: runs claims whose caller was cancelled.
    """

    def __init__(self, link: StoreLink, manager: TokenSource, background: Background) -> None:
        self._link = link
        self._manager = manager
        self._background = background

    async def claim(self, version: int) -> int | None:
        """Take the lease, and return its fence; None if another process was faster.

        Raises:
            StoreFailedError: the store failed.

        Cancellation: releases the lease if it was taken.
        """
        if not self._background.is_open:
            return await self._link.claim(version)
        claim = _ClaimInFlight()
        self._background.start_soon(self._finish_claim, claim, version)
        try:
            await claim.is_over.wait()
        except trio.Cancelled:
            claim.is_abandoned = True
            claim.scope.deadline = trio.current_time() + RELEASE_TIMEOUT
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
        """Release the lease of an abandoned claim, if the store has answered."""
        if claim.fence is not None:
            with trio.move_on_after(RELEASE_TIMEOUT, shield=True):
                await self._link.release(claim.fence)

    async def request(
        self, fence: int, failures: int, options: TokenRequestOptions | None
    ) -> tuple[object, bool]:
        """Request a token, and put the token or a record of the failure into the store.

        Args:
            fence: fence of the lease.
            failures: number of failed token requests of the fleet in a row.
            options: sent with the token request.

        Returns:
            The answer, and whether the store accepted it. The store rejects a token if this
            process lost the lease during the request.
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
            with trio.move_on_after(RELEASE_TIMEOUT, shield=True):
                await self._link.release(fence)
            raise
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                # Break the reference cycle between this frame and the exception.
                del outcome
        return outcome, is_kept

    async def _ask_and_renew(self, fence: int, options: TokenRequestOptions | None) -> object:
        """Return the answer or the error of the inner manager. Renew the lease during this time."""
        outcome: object = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.keep_renewing, fence)
            try:
                outcome = await self.ask_endpoint(options)
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: ASYNC103  # the caller raises it, outside of a group
                outcome = error
            nursery.cancel_scope.cancel()
        try:
            return outcome
        finally:
            # Break the reference cycle, as in `request`.
            del outcome

    async def ask_endpoint(self, options: TokenRequestOptions | None) -> object:
        """Request a token from the inner manager, without the store."""
        self._link.claimant.send(moment())
        answer = await self._manager.get_tokens_client_credentials_grant(options)
        if isinstance(answer, TokenInfo):
            self._link.hide_token(answer.access_token)
        return answer


def _age(token: TokenInfo, began: Moment, at: Moment) -> float:
    """Return the age of a token in seconds, by the clock that shows more time."""
    age = at.now - token.sent_at
    if at.wall is not None and began.wall is not None:
        age = max(age, at.wall - began.wall)
    return age
