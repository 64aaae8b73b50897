"""Tests of config objects that refer to a secret or an assertion: values without secrets."""

from __future__ import annotations

import copy
import functools
import pickle
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.authentication.kit import Judge, Source
from tests.helpers import make_config
from tests.http.endpoint import grant, open_manager
from trio_anon_session import (
    AnonymousSession,
    Assertion,
    AssertionFile,
    AssertionRequest,
    Config,
    ConfigError,
    CredentialsRejectedError,
    SecretFile,
)
from trio_anon_session.stores import MemoryStore, SharedTokenManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

CANARY = "canary-of-a-secret"


class Vault:
    """A client of a vault. It is unhashable, and its repr contains a secret."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vault)

    __hash__ = None  # type: ignore[assignment]  # an unhashable callable is what is tested

    def __repr__(self) -> str:
        return f"Vault(token={CANARY!r})"

    def __call__(self, *args: object) -> str:
        return CANARY

    def get(self, *args: object) -> str:
        return CANARY


def provide(request: AssertionRequest) -> str:
    return CANARY


VAULT = Vault()
PARTIAL = functools.partial(provide, CANARY)  # type: ignore[arg-type]  # a secret argument


OBJECTS: dict[str, tuple[Callable[[], Any], str]] = {
    "secret file": (lambda: SecretFile("/run/secret"), "SecretFile('/run/secret')"),
    "secret path": (lambda: SecretFile(Path("/run/secret")), "SecretFile('/run/secret')"),
    "assertion file": (lambda: AssertionFile("/run/token"), "AssertionFile('/run/token')"),
    "function": (lambda: Assertion(provide), "Assertion(provide)"),
    "method": (lambda: Assertion(VAULT.get), "Assertion(Vault.get)"),
    "object": (lambda: Assertion(Vault()), "Assertion(Vault)"),
    "partial": (lambda: Assertion(PARTIAL), "Assertion(partial)"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_a_value(name: str) -> None:
    """Objects with the same settings are equal, have the same hash and repr, and can be copied."""
    make, shown = OBJECTS[name]
    one, same = make(), make()
    assert one == same
    assert hash(one) == hash(same)
    assert repr(one) == shown
    for other, _ in OBJECTS.values():
        assert (one == other()) is (repr(other()) == shown)
    assert one != shown
    for equal in (copy.copy(one), copy.deepcopy({"auth": one})["auth"]):
        assert equal == one
        assert repr(equal) == shown


@pytest.mark.parametrize("name", OBJECTS)
def test_only_a_secret_file_is_pickled(name: str) -> None:
    """A secret file can be pickled; other objects, which may have secrets, cannot."""
    thing = OBJECTS[name][0]()
    if isinstance(thing, SecretFile):
        assert pickle.loads(pickle.dumps(thing)) == thing
    else:
        with pytest.raises(TypeError, match=f"cannot pickle a {type(thing).__name__}"):
            pickle.dumps(thing)


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_cannot_be_changed(name: str) -> None:
    """Setting an attribute of an object raises an AttributeError."""
    thing = OBJECTS[name][0]()
    for attribute in ("path", "provider", "other"):
        with pytest.raises(AttributeError):
            setattr(thing, attribute, "x")


@pytest.mark.parametrize("kind", [SecretFile, AssertionFile])
@pytest.mark.parametrize(
    "wrong",
    [None, 7, b"/run/secret", ["/run/secret"], True],
    ids=lambda value: type(value).__name__,
)
def test_a_path_of_another_type_is_a_type_error(kind: Any, wrong: object) -> None:
    """Only a str or a path is accepted, and the message names the type of anything else."""
    with pytest.raises(TypeError, match=rf"^path must be a path, not {type(wrong).__name__}$"):
        kind(wrong)


class BytesPath:
    """A path whose text is bytes."""

    def __fspath__(self) -> bytes:
        return b"/run/secret"


@pytest.mark.parametrize("kind", [SecretFile, AssertionFile])
def test_a_path_that_no_file_can_have_is_refused(kind: Any) -> None:
    """An empty path, or one with NUL, is a ConfigError; a path of bytes is a TypeError."""
    for wrong in ("", "/run/\0"):
        with pytest.raises(ConfigError, match=r"^path must be a non-empty path without NUL"):
            kind(wrong)
    with pytest.raises(TypeError, match=r"not BytesPath$"):
        kind(BytesPath())
    assert kind(PurePosixPath("/run/x")).path == Path("/run/x")


@pytest.mark.parametrize("wrong", [None, "token", b"", 7], ids=repr)
def test_a_provider_that_cannot_be_called_is_a_type_error(wrong: Any) -> None:
    """A provider that is not callable raises a TypeError with its type."""
    with pytest.raises(
        TypeError, match=rf"^provider must be callable, not {type(wrong).__name__}$"
    ):
        Assertion(wrong)


@pytest.mark.parametrize("auth_method", [Assertion(provide), AssertionFile("/run/token")])
def test_a_client_with_an_assertion_has_no_secret(auth_method: Any) -> None:
    """A client_secret together with an assertion is a ConfigError."""
    with pytest.raises(ConfigError, match=r"^client_secret must not be set: a client with Assert"):
        make_config(auth_method=auth_method)


SECRETS = [CANARY, SecretFile("/run/secret"), provide, VAULT, VAULT.get, PARTIAL]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_a_config_with_any_secret_is_a_value(secret: Any) -> None:
    """Configs with the same secret are equal and hashable, and their repr does not show it."""
    config = Config(client_id="id", client_secret=secret)
    same = Config(client_id="id", client_secret=secret)
    other = config.replace(client_secret="other")
    assert config == same
    assert hash(config) == hash(same)
    assert config != other
    assert config == other.replace(client_secret=secret)
    assert config.replace(scope="x").client_secret is secret
    assert "secret" not in repr(config).replace("client_secret_post", "")
    assert " at 0x" not in repr(config)


@pytest.mark.parametrize("name", [name for name in OBJECTS if not name.startswith("secret")])
def test_a_config_shows_how_its_client_authenticates(name: str) -> None:
    """The repr of a config contains the repr of auth_method, which shows no secret."""
    make, shown = OBJECTS[name]
    config = Config(client_id="id", auth_method=make())
    assert f"auth_method={shown}" in repr(config)
    assert CANARY not in repr(config)
    assert config == config.replace(auth_method=make())


# What to do after a rejection

ADVICE = {
    "secret file": "client_id and client_secret (BOX_CLIENT_ID, BOX_CLIENT_SECRET)",
    "assertion file": "client_id (BOX_CLIENT_ID), the claims iss, sub, aud and exp of the "
    "assertion in the file, that the server accepts it more than once",
    "plain provider": "client_id (BOX_CLIENT_ID) and the claims iss, sub, aud and exp of the "
    "assertion that the provider returns",
}


@pytest.mark.parametrize("kind", ADVICE)
async def test_the_advice_names_what_to_check(
    autojump_clock: MockClock, tmp_path: Path, kind: str
) -> None:
    """After invalid_client, the advice fits the way in which the client authenticates."""
    config = Source(kind, tmp_path).config(token_url="https://id.example/token")
    with pytest.raises(CredentialsRejectedError) as caught:
        await grant(Judge(), config)
    assert caught.value.next_step == (
        f"Check {ADVICE[kind]}, and whether the server needs another auth_method (BOX_AUTH_METHOD)."
    )


# Stores


async def test_the_lease_of_a_store_outlasts_a_slow_source(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """While one process waits for its secret, no other process requests a token."""
    store = MemoryStore()
    judge = Judge("first-secret")
    slow, quick = (Source("async callable", tmp_path) for _ in range(2))
    slow.latency = 25.0
    async with (
        open_manager(judge, slow.config()) as first,
        open_manager(judge, quick.config()) as second,
        SharedTokenManager(first, store) as shared_first,
        SharedTokenManager(second, store) as shared_second,
        AnonymousSession(first.config, shared_first) as one,
        AnonymousSession(second.config, shared_second) as other,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.get_access_token)
            await trio.sleep(1.0)
            assert await other.get_access_token() == "token-1"
    assert judge.granted == 1
