"""The bugs that `python -m tools.claimant.planted` plants; `tools.exploring.bugs` reads them."""

from __future__ import annotations

from pathlib import Path

from tools.exploring.bugs import read_folder

BUGS = read_folder(Path(__file__).with_name("bugs"))

_NOT_REACHED = "Not within these bounds: "

SURVIVORS: dict[str, str] = {
    "a token that was granted again is dropped by an older look": (
        _NOT_REACHED + "it needs a watch beside a server that grants the same token again."
    ),
    "an answer from before the drop ends it": (
        _NOT_REACHED + "the referee leaves such an answer to the session, which refuses it."
    ),
    "a look from before a drop tells of it": (
        _NOT_REACHED + "it needs a look that takes longer than a drop needs to be confirmed; "
        "tests/stores/test_claimant.py has it."
    ),
    "a drop that was found by a look is forgotten": (
        _NOT_REACHED + "it needs two processes, of which one dies or is late, and a flush."
    ),
    "the time that a put took does not count": (
        _NOT_REACHED + "it needs two processes, and a store that does later what it is asked."
    ),
    "another one's lease is renewed": (
        "No promise is broken: it ends by itself, once the one who renews it hears an answer."
    ),
    "a claim does not look at the lease": (
        "Equivalent for these claimants: no claimant claims a lease that it has seen, and taking "
        "one changes the version."
    ),
    "a lease is not renewed": (
        _NOT_REACHED + "a request lasts no longer than a lease here, but for a process that is "
        "stopped, which renews nothing."
    ),
    "another one's lease is released": (
        _NOT_REACHED + "it needs a process that gives back a lease that another one has by then."
    ),
    "a drop ends no lease, and changes no version": (
        _NOT_REACHED + "it needs a drop while another process requests the next token, and a look "
        "at what that has put."
    ),
    "the time that a look took does not count": (
        _NOT_REACHED + "it needs two processes, and a store that is slow."
    ),
    "a token that was granted again stays dropped": (
        _NOT_REACHED + "it needs a watch beside a server that grants the same token again."
    ),
}
"""The changes that the exploration does not find, each with the reason."""
