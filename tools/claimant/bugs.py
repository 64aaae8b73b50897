"""The bugs that `python -m tools.claimant.planted` plants; `tools.exploring.bugs` reads them."""

from __future__ import annotations

from pathlib import Path

from tools.exploring.bugs import read_folder

BUGS = read_folder(Path(__file__).with_name("bugs"))

_NOT_REACHED = "Outside of these bounds: "

SURVIVORS: dict[str, str] = {
    "a token that was granted again is dropped by an older look": (
        _NOT_REACHED + "it needs a watch and a server that issues the same token again."
    ),
    "an answer from before the drop ends it": (
        _NOT_REACHED + "the referee ignores such an answer, because the session rejects it."
    ),
    "a look from before a drop reports it": (
        _NOT_REACHED + "it needs a look that takes longer than the confirmation of a drop; "
        "tests/stores/test_claimant.py tests it."
    ),
    "a drop that was found by a look is forgotten": (
        _NOT_REACHED + "it needs two processes, one of which dies or is late, and a flush."
    ),
    "the time that a put took does not count": (
        _NOT_REACHED + "it needs two processes, and a store that executes calls with a delay."
    ),
    "another one's lease is renewed": (
        "No promise is broken: the process stops renewing when it receives an answer."
    ),
    "a claim does not look at the lease": (
        "Equivalent for these claimants: a claimant that has seen a lease does not claim, and "
        "each claim changes the version."
    ),
    "a lease is not renewed": (
        _NOT_REACHED + "here a request is shorter than a lease, except in a stopped process, "
        "which renews nothing."
    ),
    "another one's lease is released": (
        _NOT_REACHED + "it needs a process that releases a lease that another process has taken."
    ),
    "a drop ends no lease, and changes no version": (
        _NOT_REACHED + "it needs a drop while another process requests the next token, and a look "
        "that finds this token."
    ),
    "the time that a look took does not count": (
        _NOT_REACHED + "it needs two processes, and a slow store."
    ),
    "a token that was granted again stays dropped": (
        _NOT_REACHED + "it needs a watch and a server that issues the same token again."
    ),
}
"""The bugs that the exploration does not find, each with the reason."""
