"""`Questions`: how one process answers a session's question, with the store and without it.

Whatever goes wrong with the store, the endpoint is asked directly: at once if a caller may be
waiting, and otherwise when the store has had a moment to come back.
"""

from __future__ import annotations

import math
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from .._token import TokenInfo
from ._access import Doing, StoreFailedError
from ._claimant import AskDirectly, Claim, Use, Wait
from ._link import moment
from ._protocol import PACE, StoreError
from ._records import mark_of
from ._statistics import StoreStatistics
from ._watch import MOMENT

if TYPE_CHECKING:
    from .._token import TokenRequestOptions
    from ._attempts import Attempts
    from ._claimant import Question
    from ._link import StoreLink
    from ._watch import Watch


class Questions:
    """Answers questions for a token, as the claimant decides.

    Args:
        link: the store.
        watch: tells when there is news.
        attempts: the endpoint.
    """

    def __init__(self, link: StoreLink, watch: Watch, attempts: Attempts) -> None:
        self._link = link
        self._claimant = link.claimant
        self._access = link.access
        self._watch = watch
        self._attempts = attempts
        self._taken_over = self._requested = self._requested_directly = self._lease_waits = 0

    def statistics(self) -> StoreStatistics:
        """Return what was done so far. Any thread may call this."""
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
        )

    async def answer(self, options: TokenRequestOptions | None) -> TokenInfo:
        """Return the fleet's token, or one of this process if the store fails.

        Raises:
            TokenRequestError: the endpoint gave none.
        """
        failed_at = math.inf
        while True:
            with suppress(StoreFailedError):
                return await self._get_shared(options)
            # One that comes and goes is waited for no longer than one that is down.
            failed_at = min(failed_at, self._access.failed_at)
            if not self._claimant.can_wait_for_store(failed_at, self._access.took, moment()):
                break
            await trio.sleep(random.uniform(0.5, 1.0) * PACE)
        # A session counts the gap from its question, and an answer may have been waited for.
        await trio.sleep_until(self._claimant.gap_ends_at)
        self._requested_directly += 1
        return self._hand_out(await self._attempts.ask_endpoint(options))

    async def _get_shared(self, options: TokenRequestOptions | None) -> TokenInfo:
        """Return a token by way of the store.

        Raises:
            StoreFailedError: it has to be got without.
        """
        question = self._claimant.ask(moment())
        has_waited = False
        while True:
            # Before the look, so that no news is missed after it.
            news, looks = self._watch.news(), self._link.looks
            await self._link.tell_drops()
            seen, asked_at = await self._link.look()
            decision = self._claimant.decide(question, seen, asked_at, moment())
            if isinstance(decision, Claim):
                self._link.say(decision.trouble)
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
                    self._link.has_shown_token()
                    if await self._was_dropped_meanwhile(token, looks):
                        continue
                    self._taken_over += 1
                    return token
                case AskDirectly(trouble):
                    self._link.say(trouble)
                    raise StoreFailedError
                case Wait(seconds):
                    self._lease_waits += seen.leased_for > 0 and not has_waited
                    has_waited = has_waited or seen.leased_for > 0
                    # No longer than the store may be wrong about time.
                    seconds = min(random.uniform(0.5, 1.0) * PACE, seconds)
                    with trio.move_on_after(max(MOMENT, seconds)):
                        await news.wait()

    async def _was_dropped_meanwhile(self, token: TokenInfo, looks: int) -> bool:
        """Return whether a token was dropped while it was on its way here.

        Args:
            token: it; handed out, so that each look asks about it from now on.
            looks: how many looks had begun before. One that has begun since then, apart from the
                one that found the token, did not ask about it, although that may have been its
                news.
        """
        if self._link.looks <= looks + 1 or not isinstance(token, TokenInfo):
            return False
        try:
            await self._link.look()
        except StoreFailedError:
            # The token is used. The watch finds out when the store answers again.
            self._watch.look_soon()
        return not self._claimant.known.is_known(mark_of(token.access_token))

    async def _answer_under_lease(
        self, question: Question, claim: Claim, fence: int, options: TokenRequestOptions | None
    ) -> Use | None:
        """Return what the endpoint answers, or None if it is not the fleet's."""
        answer, is_kept = await self._attempts.request(fence, claim.failures, options)
        if is_kept:
            return Use(self._hand_out(answer))
        if question.was_overtaken:
            # No endpoint is asked again and again because a store keeps nothing.
            self._access.fails(Doing.WRITING, StoreError("it does not keep the tokens put there"))
            return Use(self._hand_out(answer))
        question.was_overtaken = True
        return None

    def _hand_out(self, answer: object) -> TokenInfo:
        self._claimant.hand_out(answer, moment())
        return answer  # type: ignore[return-value]  # of nonsense, a session makes an error
