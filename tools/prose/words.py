"""The word list: phrases that are hard to read, and what to write instead."""

from __future__ import annotations

INSTEAD = {
    "alone": "only",
    "besides?": "compared with, next to, in addition",
    "nobody": "no caller, no process",
    "whoever|whomever|whom": "callers that, processes that",
    "tells?|told|telling": "report, notify, log, raise, distinguish",
    "mend(?:s|ed|ing)?": "fix",
    "anew": "again",
    "for ?ever": "indefinitely",
    "meanwhile": "during this time",
    r"(?<!\bare\s)all the same": "still",
    "to be had": "available",
    "likewise": "also",
    "hence": "so",
    "wants": "must be, expects, requires",
    "(?-i:is|are|was|were) (?:not )?there": "exists, is missing, is available",
    "in (?:the|the same|that) moment": "at that moment, at the same time",
    "the very": "the same",
    "at once": "immediately, at the same time",
    "books": "recorded requests",
    "dead": "revoked or invalid, killed, broken",
    "good (?:token|one)s?": "valid",
    "t(?:ak(?:es?|en|ing)|ook) along": "cancel, include",
    "go(?:es)? without": "has no, sends no",
    "com(?:es?|ing) out as itself": "propagates unwrapped",
    r"(?<!\bthere\s)(?-i:(?:is|are|was|were|be) none)": "is not, has no",
    "lest|whilst|hitherto|thereof|therein|whereof|whereupon|in vain": "a common word",
}
"""A regular expression, for whole words in any case: what to write instead."""


def pattern(phrase: str) -> str:
    """Return the regular expression that finds a phrase, also across lines."""
    words = phrase.replace(" ?", r"\s*").replace(" ", r"\s+")
    return rf"\b(?:{words})\b"
