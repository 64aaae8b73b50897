"""`Questions`: answers a session's request for a token, with or without the store.

If the store fails, the process requests its own token. It does so immediately if a caller may be
waiting. Otherwise it first gives the store a few seconds to recover.
"""

from __future__ import annotations

import math
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from .._token import TokenInfo
from ._access import Operation, StoreFailedError
from ._claimant import AskDirectly, Claim, Trouble, Use, Wait
from ._link import moment
from ._protocol import POLL_INTERVAL, StoreError
from ._records import mark_of
from ._statistics import StoreStatistics
from ._watch import MIN_LOOK_INTERVAL

if TYPE_CHECKING:
    from .._token import TokenRequestOptions
    from ._attempts import Attempts
    from ._claimant import Question
    from ._link import StoreLink
    from ._watch import Watch


class Questions:
    """The part of a manager that carries out the decisions of the claimant.

    Args:
        link: sends requests to the store.
        watch: waits for notifications.
        attempts: sends token requests.
    """

    def __init__(self, link: StoreLink, watch: Watch, attempts: Attempts) -> None:
        self._link = link
        self._claimant = link.claimant
        self._access = link.access
        self._watch = watch
        self._attempts = attempts
        self._refused = 0
        self._taken_over = self._requested = self._requested_directly = self._lease_waits = 0

    def statistics(self) -> StoreStatistics:
        """Return the counters. Any thread can call this."""
        access = self._access
        return StoreStatistics(
            is_up=access.is_up,
            questions=access.questions,
            failed_questions=access.failed_questions,
            question_seconds=access.question_seconds,
            taken_over=self._taken_over,
            requested=self._requested,
            requested_directly=self._requested_directly,
            lease_waits=self._lease_waits,
            untold_drops=len(self._claimant.known.untold),
            refused_records=self._refused,
        )

    async def answer(self, options: TokenRequestOptions | None) -> TokenInfo:
        """Return the fleet's token, or a token of this process if the store fails.

        Raises:
            TokenRequestError: the token request failed.
        """
        failed_at = math.inf
        while True:
            with suppress(StoreFailedError):
                return await self._get_shared(options)
            # Use the first failure: a store that recovers and fails again gets no more time.
            failed_at = min(failed_at, self._access.failed_at)
            if not self._claimant.can_wait_for_store(failed_at, self._access.took, moment()):
                break
            await trio.sleep(random.uniform(0.5, 1.0) * POLL_INTERVAL)
        # The session measures the gap from its call, but this method may have waited since then.
        await trio.sleep_until(self._claimant.gap_ends_at)
        self._requested_directly += 1
        return self._hand_out(await self._attempts.ask_endpoint(options))

    async def _get_shared(self, options: TokenRequestOptions | None) -> TokenInfo:
        """Return the fleet's token from the store, or request one with the lease.

        Raises:
            StoreFailedError: this process must request its own token.
        """
        question = self._claimant.ask(moment())
        has_waited = False
        while True:
            # Get the event before the look, so that no later notification is missed.
            news, looks = self._watch.news(), self._link.looks
            await self._link.report_drops()
            seen, asked_at = await self._link.look()
            decision = self._claimant.decide(question, seen, asked_at, moment())
            if isinstance(decision, Claim):
                self._link.log_problem(decision.trouble)
                self._refused += decision.trouble is Trouble.GARBAGE
                fence = await self._attempts.claim(decision.version)
                if fence is not None:
                    self._requested += 1
                    used = await self._answer_under_lease(question, decision, fence, options)
                    if used is None or await self._was_dropped_meanwhile(used.token, looks):
                        continue
                    return used.token
                decision = self._claimant.claim_failed(question, moment())
            match decision:
                case Use(token):
                    self._link.record_stored_token()
                    if await self._was_dropped_meanwhile(token, looks):
                        continue
                    self._taken_over += 1
                    return token
                case AskDirectly(trouble):
                    self._link.log_problem(trouble)
                    raise StoreFailedError
                case Wait(seconds):
                    self._lease_waits += seen.leased_for > 0 and not has_waited
                    has_waited = has_waited or seen.leased_for > 0
                    # Poll, because the times in the store may be wrong.
                    seconds = min(random.uniform(0.5, 1.0) * POLL_INTERVAL, seconds)
                    with trio.move_on_after(max(MIN_LOOK_INTERVAL, seconds)):
                        await news.wait()

    async def _was_dropped_meanwhile(self, token: TokenInfo, looks: int) -> bool:
        """Return whether a token was dropped while this process received it.

        Args:
            token: the token. Each look asks about it from now on.
            looks: number of looks that had begun before this process received the token. A second
                look since then did not ask about the token. It may have used up the
                notification of the token's drop.
        """
        if self._link.looks <= looks + 1 or not isinstance(token, TokenInfo):
            return False
        try:
            await self._link.look()
        except StoreFailedError:
            # Use the token. The watch reads the store again once it works.
            self._watch.look_soon()
        return not self._claimant.known.is_known(mark_of(token.access_token))

    async def _answer_under_lease(
        self, question: Question, claim: Claim, fence: int, options: TokenRequestOptions | None
    ) -> Use | None:
        """Request a token with the lease. Return None if the store rejected it once."""
        answer, is_kept = await self._attempts.request(fence, claim.failures, options)
        if is_kept:
            return Use(self._hand_out(answer))
        if question.was_overtaken:
            # Give up after two rejected tokens, so that token requests do not repeat.
            self._access.record_failure(
                Operation.WRITE, StoreError("it does not keep the tokens put there")
            )
            return Use(self._hand_out(answer))
        question.was_overtaken = True
        return None

    def _hand_out(self, answer: object) -> TokenInfo:
        self._claimant.hand_out(answer, moment())
        return answer  # type: ignore[return-value]  # the session checks the type
