"""The result of a check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from .._ending import FAILED, exit_code_of

if TYPE_CHECKING:
    from ..._errors import TokenRequestError
    from ..._secrets import Secrets

Verdict = Literal["ok", "warning", "failed", "skipped"]


@attrs.frozen
class Check:
    """The result of one check.

    Attributes:
        name: name of the check.
        verdict: result of the check.
        found: what the check found, in one line.
        advice: what to do next, or None if there is nothing to do.
        exit_code: exit code of a run in which this check is the first that failed.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str | None = None
    exit_code: int = FAILED

    def scrubbed(self, secrets: Secrets) -> Check:
        """Return a copy with all secrets masked.

        The advice is a text of this package, and a short secret may be a part of it.
        """
        return attrs.evolve(self, found=secrets.hide(self.found))


def failed(name: str, error: TokenRequestError) -> Check:
    """Return the failed check for an error of the token manager."""
    # The error message ends with the advice, which is printed separately here.
    found = str(error).removesuffix(error.next_step or "").rstrip(". ")
    return Check(name, "failed", found, error.next_step, exit_code_of(error))


def exit_code_of_all(checks: list[Check]) -> int:
    """Return the exit code of the first failed check, or 0."""
    return next((check.exit_code for check in checks if check.verdict == "failed"), 0)
