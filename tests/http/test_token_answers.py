"""Tests of how `TokenManager` interprets each answer to a grant or a revocation."""

from __future__ import annotations

import gzip
import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.http.endpoint import CALLS, TOKEN, Endpoint, ask, error_of, grant, open_manager, says
from trio_anon_session import (
    CredentialsRejectedError,
    MalformedTokenResponseError,
    RevocationError,
    TokenInfo,
    TokenRequestError,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    import httpx
    from trio.testing import MockClock

    from tests.http.endpoint import Answer


async def test_a_lifetime_counts_from_before_the_request(autojump_clock: MockClock) -> None:
    """A token's lifetime counts from the moment at which the request was sent."""

    async def slowly(request: httpx.Request) -> httpx.Response:
        await trio.sleep(20.0)
        return await says()(request)

    await trio.sleep(100.0)
    one = await grant(Endpoint(slowly))

    assert trio.current_time() == 120.0
    assert one == TokenInfo(TOKEN, 3600.0, 100.0, 3100.0, 3670.0)


@pytest.mark.parametrize(
    "answer",
    [
        says(201),
        says(299),
        says(sort="text/html; charset=utf-8"),
        says(sort=""),
        says(200, json.dumps({"access_token": TOKEN}).encode("utf-8-sig")),
        says(
            200,
            gzip.compress(json.dumps({"access_token": TOKEN}).encode()),
            {"Content-Encoding": "gzip"},
        ),
        says(200, {"access_token": TOKEN, "error": "none"}),
    ],
    ids=["201", "299", "html", "no type", "byte order mark", "packed unasked", "error field"],
)
async def test_a_token_is_accepted_in_any_format(answer: Answer) -> None:
    """A successful answer with a token is accepted, whatever its content type and `error` field."""
    assert (await grant(Endpoint(answer))).access_token == TOKEN


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", TokenRequestError),
        (400, "invalid_token", TokenRequestError),
        (400, "invalid_client", CredentialsRejectedError),
        (400, "unauthorized_client", CredentialsRejectedError),
        (400, "invalid_grant", CredentialsRejectedError),
        (401, "unheard_of", CredentialsRejectedError),
        (403, "access_denied", CredentialsRejectedError),
        (400, "temporarily_unavailable", TokenUnavailableError),
        (400, "server_error", TokenUnavailableError),
        (400, "rate_limit_exceeded", TokenUnavailableError),
        # With these statuses, the failure is temporary, whatever the error code is.
        (408, "request_timeout", TokenUnavailableError),
        (425, "too_early", TokenUnavailableError),
        (429, "invalid_client", TokenUnavailableError),
        (500, "invalid_grant", TokenUnavailableError),
        # GitHub refuses with status 200.
        (200, "invalid_client", CredentialsRejectedError),
        (200, "incorrect_client_credentials", TokenRequestError),
        (200, "temporarily_unavailable", TokenUnavailableError),
    ],
)
async def test_error_code(status: int, code: str, kind: type[TokenRequestError]) -> None:
    """Code and status decide the class of an error; the description does not."""
    body = {"error": code, "error_description": "invalid_client, try again later"}

    error = await error_of(says(status, body))

    assert type(error) is kind
    assert error.retryable is (kind is TokenUnavailableError)
    assert (error.status_code, error.error) == (status, code)
    assert error.error_description == "invalid_client, try again later"
    assert (error.retry_after, error.attempts, error.request_id) == (None, 1, None)
    assert f"status {status}, {code}: invalid_client, try again later" in str(error)


async def test_code_without_a_description() -> None:
    """Without a description, the message ends with the code and the advice."""
    error = await error_of(says(400, {"error": "invalid_scope"}))
    assert str(error).endswith(f"status 400, invalid_scope. {error.next_step}")


@pytest.mark.parametrize(
    ("body", "code", "description"),
    [
        ({"type": "error", "code": "invalid_grant", "message": "words"}, "invalid_grant", "words"),
        ({"error": "x", "code": "y", "error_description": "a", "message": "b"}, "x", "a"),
        # Line breaks and other controls would forge lines of a log.
        ({"error": "a\r\nb", "error_description": "c\x1b[31m\r\nd"}, "***", "c [31m d"),
        ({"error": "x", "error_description": "d " * 100_000}, "x", ("d " * 150)[:299] + "…"),
        # This token is a plain word, but the refusal contains it as its token.
        ({"error": "x", "error_description": "a fig", "access_token": "fig"}, "x", "a ***"),
    ],
    ids=["API", "both", "controls", "long", "token"],
)
async def test_both_shapes_of_an_error(body: dict[str, str], code: str, description: str) -> None:
    """Errors in the format of Box's API are read too; OAuth's fields have priority.

    Both are scrubbed.
    """
    error = await error_of(says(400, body))
    assert (error.error, error.error_description) == (code, description)
    assert isinstance(error, CredentialsRejectedError) is (code == "invalid_grant")
    assert str(error).isprintable()


@pytest.mark.parametrize("status", [200, 404])
async def test_an_answer_without_a_content_type(status: int) -> None:
    """If the answer has neither a code nor a content type, the message says so."""
    error = await error_of(says(status, b"", sort=""))
    assert f"status {status}, no content type, 0 bytes" in str(error)


PAGE = b"<html><h1>Oops</h1></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (300, PAGE, TokenRequestError),
        (399, b"", TokenRequestError),
        (400, PAGE, TokenRequestError),
        (401, b"", CredentialsRejectedError),
        (403, PAGE, CredentialsRejectedError),
        (404, PAGE, TokenRequestError),
        (404, b"[]", TokenRequestError),
        (404, b'{"error": ', TokenRequestError),
        (404, b'{"error": {"code": 1}}', TokenRequestError),
        (404, b'{"error": null, "code": 7}', TokenRequestError),
        (404, b'{"access_token": "not to be used", "expires_in": 3600}', TokenRequestError),
        (408, PAGE, TokenUnavailableError),
        (425, PAGE, TokenUnavailableError),
        (429, PAGE, TokenUnavailableError),
        (451, PAGE, TokenRequestError),
        (500, PAGE, TokenUnavailableError),
        (599, b'{"access_token": "not to be used"}', TokenUnavailableError),
    ],
)
async def test_status_without_a_code(
    status: int, body: bytes, kind: type[TokenRequestError]
) -> None:
    """If an answer has no code, the status decides, and the body is not quoted."""
    error = await error_of(says(status, body, sort="text/html; charset=utf-8"))

    assert type(error) is kind
    assert error.retryable is (kind is TokenUnavailableError)
    assert (error.status_code, error.error, error.error_description) == (status, None, None)
    assert f"status {status}, text/html, {len(body)} bytes" in str(error)
    assert ("redirects" in str(error)) is (300 <= status < 400)


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, b"", "the body is not a JSON object"),
        (204, b"", "the body is not a JSON object"),
        (200, b"[]", "the body is not a JSON object"),
        (200, PAGE, "the body is not a JSON object"),
        (200, b'{"access_token": "tok', "the body is not a JSON object"),
        (200, b'{"token": "tok"}', "access_token is missing"),
        (200, b'{"error": {"message": "tok"}}', "access_token is missing"),
        (201, b'{"code": "tok"}', "access_token is missing"),
        (200, b'{"access_token": null, "error": "tok"}', "access_token is"),
        (200, b'{"access_token": "tok\\u0000"}', "access_token has characters"),
        (200, b'{"access_token": "tok", "token_type": "mac"}', "token_type"),
        (299, b'{"access_token": "tok", "expires_in": 0}', "expires_in is not a positive"),
    ],
)
async def test_malformed_answer(status: int, body: bytes, problem: str) -> None:
    """A success without a usable token is a retryable error, and the body is not quoted."""
    headers = {"BOX-REQUEST-ID": "abc", "Retry-After": "7"}

    error = await error_of(says(status, body, headers))

    assert type(error) is MalformedTokenResponseError
    assert error.retryable
    assert problem in str(error)
    assert (error.status_code, error.error, error.error_description) == (status, None, None)
    assert (error.request_id, error.retry_after) == ("abc", 7.0)
    assert '"tok' not in str(error)
    assert error.__context__ is None


async def test_retry_after_without_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Date header, Retry-After is measured against the wall clock."""
    answer = says(503, b"", {"Retry-After": formatdate(1_000_120.0, usegmt=True)})
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: 1_000_000.0)
        error = await error_of(answer)
    assert error.retry_after == 120.0


@pytest.mark.parametrize(
    ("headers", "body", "request_id"),
    [
        ({}, {"error": "x"}, None),
        ({"box-request-id": "abc"}, b"<html>", "abc"),
        ({"BOX-REQUEST-ID": "abc"}, {"error": "x", "request_id": "def"}, "def"),
        ({"BOX-REQUEST-ID": "abc"}, {"error": "x", "request_id": 17}, "abc"),
        ({}, {"error": "x", "request_id": "a\r\nb"}, "***"),
    ],
    ids=ascii,
)
async def test_request_id(headers: dict[str, str], body: object, request_id: str | None) -> None:
    """The error has the server's request id, from the body or the header."""
    error = await error_of(says(503, body, headers))
    assert error.request_id == request_id


async def test_a_token_that_was_granted_is_not_quoted() -> None:
    """Tokens of earlier grants are hidden in the description of an error."""
    # These tokens are plain words, which are quoted unless they are known as tokens.
    refusal = {"error": "x", "error_description": "neither plumtree nor figleaves"}
    endpoint = Endpoint(
        says(200, {"access_token": "plumtree"}),
        says(200, {"access_token": "figleaves"}),
        says(400, refusal),
    )
    async with open_manager(endpoint) as manager:
        await ask(manager)
        await ask(manager)
        for call in CALLS:
            with pytest.raises(TokenRequestError) as caught:
                await ask(manager, call)
            assert caught.value.error_description == "neither *** nor ***"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b'{"error": "invalid_client"}'),
        (204, b""),
        (400, b'{"error": "invalid_token"}'),
        (499, b'{"type": "error", "code": "invalid_token", "message": "x"}'),
    ],
    ids=ascii,
)
async def test_a_token_is_revoked(status: int, body: bytes) -> None:
    """A success, or the error `invalid_token`, means that the token is revoked."""
    async with open_manager(Endpoint(says(status, body))) as manager:
        await ask(manager, "revoke")


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (300, None, False),
        (400, None, False),
        (400, "invalid_client", False),
        (401, "unsupported_token_type", False),
        (403, None, False),
        (408, None, True),
        (429, "rate_limit_exceeded", True),
        (400, "temporarily_unavailable", True),
        # RFC 7009 §2.2.1: assume that the token is still valid.
        (503, None, True),
        (500, "invalid_token", True),
    ],
)
async def test_a_token_may_still_be_valid(
    status: int, code: str | None, *, retryable: bool
) -> None:
    """Any other answer to a revocation is an error, because the token may still be valid."""
    body: Any = {"error": code, "error_description": "words"} if code else PAGE
    headers = {"Retry-After": "9", "BOX-REQUEST-ID": "abc"}

    error = await error_of(says(status, body, headers), "revoke")

    assert type(error) is RevocationError
    assert error.retryable is retryable
    assert (error.status_code, error.error) == (status, code)
    assert error.error_description == ("words" if code else None)
    assert (error.retry_after, error.request_id, error.attempts) == (9.0, "abc", 1)
    assert f"status {status}" in str(error)
