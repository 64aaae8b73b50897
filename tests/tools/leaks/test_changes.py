"""Promise 21 for secrets, keys, assertions and certificates that change."""

from __future__ import annotations

import random
from string import ascii_letters

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tools.leaks.canaries import PLACES, Echo
from tools.leaks.changes import PARTS, ChangingLife, changing_lives, hunt_changes, part_of
from tools.leaks.hunt import find_leaks
from tools.leaks.traces import LENGTH, Traces
from tools.leaks.ways import CHANGES, KINDS, METHODS

ECHO = Echo("error_description", "raw", 400)


def leaks_of(life: ChangingLife) -> dict[str, str]:
    """Return the first text with a piece of a secret, for each sink."""
    shown, traces = hunt_changes(life)
    return find_leaks(shown, traces.found_in)


@pytest.mark.slow
@given(life=changing_lives)
@example(life=ChangingLife("key", "Ed25519", metadata=Echo("extra", "strict basic", 429)))
def test_promise_21_secrets_that_change_do_not_leak(life: ChangingLife) -> None:
    """Whatever changes in a secret's source, and whatever a server echoes, no sink shows it."""
    assert leaks_of(life) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_promise_21_each_source_of_a_secret(kind: str) -> None:
    """If a secret is replaced, neither the old nor the new one is shown."""
    life = ChangingLife(kind, password="pass word/ö of the key", grant=ECHO, changes=("rotate",))
    assert leaks_of(life) == {}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_promise_21_each_change_of_a_secret(kind: str, change: str) -> None:
    """If a secret's source breaks and then has a new secret, neither is shown."""
    life = ChangingLife(
        kind, password="pass word/ö of the key", changes=(change, "rotate"), revocation=ECHO
    )
    assert leaks_of(life) == {}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("place", PLACES)
def test_promise_21_each_part_of_an_assertion(place: str, part: str) -> None:
    """No part of an assertion or secret is shown, in whatever place a server echoes it."""
    kinds = ("assertion file", "key", "secret file", "signer")
    kind = kinds[(PLACES.index(place) + PARTS.index(part)) % len(kinds)]
    echo = Echo(place, "raw", 400)
    life = ChangingLife(kind, grant=echo, revocation=echo, metadata=echo, part=part)
    assert leaks_of(life) == {}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_promise_21_secrets_in_place_of_other_settings(method: str) -> None:
    """Keys, passwords and assertions that are passed for other arguments are not shown."""
    life = ChangingLife("secret", method=method, has_mistakes=True)
    assert leaks_of(life) == {}


# Sensitivity of the hunt


def test_the_hunt_of_changes_fills_all_sinks() -> None:
    """The hunt fills each sink."""
    lives = [
        ChangingLife(metadata=ECHO, grant=ECHO, revocation=ECHO, changes=("vanish", "rotate")),
        ChangingLife("async callable", changes=("hang",), has_mistakes=True),
    ]
    filled = {
        sink for life in lives for sink, texts in hunt_changes(life)[0].texts.items() if any(texts)
    }
    assert not [sink for sink in SINKS if sink not in filled]


SINKS = (
    *("log of trio_anon_session", "log of httpx", "log of httpcore"),
    *(
        f"{what} of {thing}"
        for what in ("repr", "str", "pprint", "attributes")
        for thing in ("a config", "a manager", "a session", "a way to authenticate", "statistics")
    ),
    *(
        f"{what} of an error of {call}"
        for what in ("repr", "str", "attributes", "traceback")
        for call in ("settings", "credentials", "a grant", "a revocation", "a getter", "discovery")
    ),
    "locals of an error of a grant, cancelled",
    "locals of an error of credentials, cancelled",
    "repr of records of the kit",
    "repr of an error of the kit",
    "str of the error of pickle of a way to authenticate",
    "copy.deepcopy of a way to authenticate",
    "repr of the event RefreshFailed",
)


CREDENTIAL = ".".join("".join(random.Random(n).choices(ascii_letters, k=80)) for n in range(3))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_found(part: str) -> None:
    """The hunt finds a shown part of an assertion."""
    traces = Traces()
    traces.add(CREDENTIAL)
    said = part_of(CREDENTIAL, part, CREDENTIAL)
    for around in ("", " ", "="):
        assert traces.found_in(f"got {around}{said}{around}, sorry")


@given(start=st.integers(0, 240 - LENGTH), is_upper=st.booleans())
def test_each_piece_is_found(start: int, is_upper: bool) -> None:
    """The hunt finds a piece of a secret, and not a shorter piece."""
    traces = Traces()
    traces.add(CREDENTIAL)
    piece = CREDENTIAL[start : start + LENGTH]
    assert traces.found_in(f"got {piece.upper() if is_upper else piece}, sorry")
    assert not traces.found_in(f"got {piece[1:]} from the token endpoint")
