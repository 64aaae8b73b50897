"""Tests of the advice in an error of a token endpoint, which depends on error and config."""

from __future__ import annotations

import errno
import ssl
from socket import gaierror
from typing import TYPE_CHECKING, get_args

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import (
    AnonymousSession,
    Config,
    CredentialsRejectedError,
    Event,
    MalformedTokenResponseError,
    RevocationError,
    Revoked,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session._advice import BY_CODE, BY_NETWORK_FAILURE, kind_of, next_step
from trio_anon_session._errors import NetworkFailure
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from trio.testing import MockClock

BOX = make_config()
SUBJECT = make_config(box_subject_type="enterprise", box_subject_id="1")
USER = make_config(box_subject_type="user", box_subject_id="1")
BASIC = make_config(auth_method="client_secret_basic")
OTHER = make_config(api_root_url="https://id.example")
# This host name only ends like Box's.
LOOKALIKE = make_config(api_root_url="https://notbox.com")


def refused(
    code: str | None, status: int = 400, kind: type[TokenRequestError] = TokenRequestError
) -> TokenRequestError:
    """Return the error for a refusal by the server."""
    return kind("refused", status_code=status, error=code)


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        # The advice depends on the error code, the server and the settings.
        (BOX, refused("invalid_client"), "BOX_SUBJECT_TYPE, BOX_SUBJECT_ID"),
        (BOX, refused("unauthorized_client"), "box_subject_type and box_subject_id"),
        (BOX, refused("invalid_grant"), "BOX_SUBJECT_TYPE, BOX_SUBJECT_ID"),
        (SUBJECT, refused("invalid_client"), "BOX_CLIENT_ID, BOX_CLIENT_SECRET"),
        (SUBJECT, refused("unauthorized_client"), "Have an admin of the enterprise authorize"),
        (SUBJECT, refused("invalid_grant"), "admin has authorized the app"),
        (BASIC, refused("invalid_client"), "client_secret_post"),
        (OTHER, refused("invalid_client"), "auth_method"),
        (LOOKALIKE, refused("invalid_client"), "auth_method"),
        (OTHER, refused("unauthorized_client"), "client_credentials grant"),
        (OTHER, refused("invalid_grant"), "client_id and client_secret"),
        (BOX, refused("invalid_request"), "scope and extra_params"),
        (USER, refused("invalid_request"), "user access tokens"),
        (OTHER, refused("invalid_scope"), "Request scopes that this client may have"),
        (OTHER.replace(scope="a"), refused("invalid_scope"), "Request other scopes, or none"),
        (BOX, refused("access_denied"), "admin"),
        (BOX, refused("error_access_from_ip_not_allowed"), "IP address"),
        (USER, refused("account_deactivated"), "box_subject_id"),
        # The advice depends on the status if the failure is temporary, or if the code is unknown.
        (OTHER, refused(None, 401), "client_id"),
        (OTHER, refused("unheard_of", 403), "client_id"),
        (OTHER, refused(None, 404), "no token endpoint at this URL"),
        (OTHER, refused(None, 302), "redirects of token requests are never followed"),
        (OTHER, refused("temporarily_unavailable", 429), "share one session"),
        (OTHER, refused(None, 408), "may be temporary"),
        (OTHER, refused(None, 425), "may be temporary"),
        (OTHER, refused("invalid_client", 500), "may be temporary"),
        # Malformed answers, also from Box, and failed revocations have their own advice.
        (OTHER, refused(None, 200, MalformedTokenResponseError), "token_url (BOX_TOKEN_URL)"),
        (SUBJECT, refused(None, 200, MalformedTokenResponseError), "token_url (BOX_TOKEN_URL)"),
        (OTHER, refused(None, 404, RevocationError), "revoke_url (BOX_REVOKE_URL)"),
        (BOX, refused("invalid_request", 400, RevocationError), "Check client_id and client_secr"),
    ],
)
def test_next_step(config: Config, error: TokenRequestError, says: str) -> None:
    """The advice depends on error code and status, on the server and on the settings."""
    assert says in str(next_step(error, config))


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client", "invalid_grant"])
@pytest.mark.parametrize("config", [SUBJECT, OTHER])
def test_no_subject_where_it_does_not_help(code: str, config: Config) -> None:
    """The advice does not mention a subject if one is set, or if the server is not Box's."""
    step = next_step(refused(code), config)
    assert "which most apps need" not in str(step)
    assert not str(step).startswith("Set box_subject_type")


def test_unknown() -> None:
    """If the error does not show what to do, the message has no advice."""
    assert next_step(TokenUnavailableError("no token"), BOX) is None
    assert next_step(refused(None, 418), BOX) is None
    error = TokenUnavailableError("no token")
    assert str(error) == "no token"
    error.next_step = "Do this."
    assert str(error) == "no token. Do this."
    # The text of a server may already end with a full stop.
    error.args = ("no token: Try later. ",)
    assert str(error) == "no token: Try later. Do this."


@given(
    st.text() | st.sampled_from(sorted(BY_CODE)) | st.none(),
    st.integers(100, 599) | st.none(),
    st.sampled_from(get_args(NetworkFailure)) | st.none(),
    st.sampled_from([BOX, SUBJECT, USER, BASIC, OTHER]),
)
def test_is_a_sentence(
    code: str | None, status: int | None, failure: NetworkFailure | None, config: Config
) -> None:
    """The advice is at most one sentence, without text of the server, whatever the error."""
    for kind in (TokenRequestError, RevocationError, MalformedTokenResponseError):
        error = kind(
            "what happened", status_code=status, error=code, error_description="its own words"
        )
        error.network_failure = failure
        step = next_step(error, config)
        if step is not None:
            assert step[0].isupper()
            assert step.endswith(".")
            assert ". " not in step
            assert len(step) < 220
            assert "its own words" not in step


def test_every_network_failure_has_advice() -> None:
    """Every kind of network failure has advice."""
    assert set(BY_NETWORK_FAILURE) == set(get_args(NetworkFailure))


def caused(cause: BaseException) -> httpx.ConnectError:
    """Return an error of httpx that has this cause below an error of Trio."""
    mute = trio.BrokenResourceError()
    mute.__cause__ = cause
    error = httpx.ConnectError("")
    error.__context__ = mute
    return error


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (gaierror(-2, "Name or service not known"), "name"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused"),
        (OSError(errno.ENETUNREACH, "no network"), "no_route"),
        (OSError(errno.EHOSTUNREACH, "no host"), "no_route"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "certificate"),
        (ssl.SSLError(1, "wrong version number"), "tls"),
        (
            ExceptionGroup(
                "", [OSError(errno.ENETUNREACH, ""), ConnectionRefusedError(errno.ECONNREFUSED, "")]
            ),
            "refused",
        ),
        (
            ExceptionGroup(
                "", [ConnectionRefusedError(errno.ECONNREFUSED, ""), OSError(errno.ENETUNREACH, "")]
            ),
            "refused",
        ),
        (OSError(errno.EIO, "broken"), None),
    ],
)
def test_kind_of(cause: BaseException, kind: str | None) -> None:
    """The last error in the chain of httpx's error decides the kind of network failure."""
    assert kind_of(caused(cause)) == kind


def test_kind_of_a_circle() -> None:
    """A circular chain of causes has no kind, and the search ends."""
    error = httpx.ConnectError("")
    error.__cause__ = error
    assert kind_of(error) is None


async def test_said_once_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After several failures in a row, only the first log record has the advice."""
    server = TokenServer(FaultPlan(token=[Fault.server_error(503)] * 3))
    async with open_test_session(server) as session:
        await session.get_access_token()
    lines = [
        record.getMessage()
        for record in caplog.records
        if "token request failed" in record.getMessage()
    ]
    assert ["may be temporary" in line for line in lines] == [True, False, False]


async def test_said_once_in_a_traceback(autojump_clock: MockClock) -> None:
    """The error of the caller has the advice, and its cause has only the message."""
    server = TokenServer(FaultPlan(token_then=Fault.refusal("invalid_client", "Wrong secret")))
    async with open_test_session(server) as session:
        with pytest.raises(CredentialsRejectedError) as caught:
            await session.get_access_token()
    cause = caught.value.__cause__
    assert type(cause) is CredentialsRejectedError
    assert cause.next_step == caught.value.next_step
    assert str(caught.value) == f"{cause}. {caught.value.next_step}"


@pytest.mark.parametrize("kind", [RevocationError, TokenUnavailableError])
async def test_said_once_of_a_revocation(
    autojump_clock: MockClock, kind: type[TokenRequestError]
) -> None:
    """The error of a failed revocation has the advice once, and its cause has only the message."""
    manager = FakeTokenManager(make_config(max_retries=0))
    own = kind("the vault is sealed")
    own.next_step = "Unseal it."
    manager.revoke_outcomes = [own]
    events: list[Event] = []
    async with AnonymousSession(manager.config, manager, observers=[events.append]) as session:
        await session.get_access_token()
        with pytest.raises(RevocationError) as caught:
            await session.revoke_tokens()
    (error,) = [event.error for event in events if isinstance(event, Revoked)]
    assert str(error).count("Unseal it.") == 1
    assert str(caught.value).endswith("the vault is sealed. Unseal it.")
    assert str(caught.value).count("Unseal it.") == 1
    assert str(caught.value.__cause__) == "the vault is sealed"


async def test_advice_of_another_manager(autojump_clock: MockClock) -> None:
    """The caller's error has the advice of another token manager's error, which is not changed."""
    manager = FakeTokenManager(make_config(max_retries=0))
    own = TokenUnavailableError("the vault is sealed")
    own.next_step = "Unseal it."
    manager.outcomes = [own]
    async with AnonymousSession(manager.config, manager) as session:
        with pytest.raises(TokenUnavailableError, match=r"^the vault is sealed\. Unseal it\.$"):
            await session.get_access_token()
    assert own.next_step == "Unseal it."
