"""The meaning of a response of a token or revocation endpoint, without I/O."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ._backoff import parse_retry_after
from ._errors import (
    CredentialsRejectedError,
    MalformedTokenResponseError,
    RevocationError,
    TokenRequestError,
    TokenUnavailableError,
)
from ._exchange import NoAnswer
from ._secrets import Secrets
from ._token import MalformedAnswerError, TokenInfo, parse_object, read_token_answer

if TYPE_CHECKING:
    from ._config import Config
    from ._errors import Facts
    from ._exchange import Answer

_REJECTIONS = frozenset({"invalid_client", "unauthorized_client", "invalid_grant"})
_TEMPORARY = frozenset({"temporarily_unavailable", "server_error", "rate_limit_exceeded"})
_CODES = (
    _REJECTIONS
    | _TEMPORARY
    | {"invalid_request", "invalid_scope", "invalid_target", "invalid_token"}
    | {"unsupported_grant_type", "unsupported_token_type"}
)
"""Error codes of RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8707 and Box. They decide what an error means,
so they are not scrubbed: a short secret may be a part of one."""


def judge_grant(
    answer: Answer | NoAnswer, sent_at: float, config: Config, known: Secrets
) -> TokenInfo | TokenRequestError:
    """Return the token of a response, or the error.

    Args:
        answer: the response of the token endpoint.
        sent_at: when the request was sent, on Trio's clock.
        config: the settings.
        known: the texts to hide.
    """
    if isinstance(answer, NoAnswer):
        said = f"no token: {answer.reason}"
        if answer.is_final:
            return TokenRequestError(said, retryable=False)
        error = TokenUnavailableError(said)
        error._is_local = answer.is_local
        return error
    fields = parse_object(answer.body)
    secrets = known.and_also(Secrets(*_tokens_in(fields)))
    if not 200 <= answer.status < 300 or (
        fields and "access_token" not in fields and isinstance(fields.get("error"), str)
    ):
        return _refusal(answer, _facts(answer, fields or {}, secrets), config, secrets)
    if fields is None:
        reason = "the body is not a JSON object"
    else:
        try:
            return read_token_answer(fields, sent_at, config)
        except MalformedAnswerError as error:
            reason = str(error)
    return MalformedTokenResponseError(
        f"the token endpoint did not send a valid token response: {reason} "
        f"({_outline(answer, secrets)})",
        **_facts(answer, {}, secrets),
    )


def judge_revocation(answer: Answer | NoAnswer, secrets: Secrets) -> RevocationError | None:
    """Return the error of a revocation, or None if it succeeded.

    Args:
        answer: the response of the revocation endpoint.
        secrets: the texts to hide.
    """
    if isinstance(answer, NoAnswer):
        return RevocationError(
            f"the token could not be revoked: {answer.reason}", retryable=not answer.is_final
        )
    # RFC 7009 §2.2: a client ignores the body of a 200.
    if 200 <= answer.status < 300:
        return None
    facts = _facts(answer, parse_object(answer.body) or {}, secrets)
    # RFC 7009 requires a 200 for an unknown token, but Box may send this error.
    if facts["error"] == "invalid_token" and answer.status < 500:
        return None
    return RevocationError(
        f"the token could not be revoked: {_summary(answer, facts, secrets)}",
        retryable=_is_temporary(answer.status, facts["error"]),
        **facts,
    )


def rejects_client(answer: Answer | NoAnswer) -> bool:
    """Return whether the server rejects the client's credentials."""
    if isinstance(answer, NoAnswer):
        return False
    facts = _facts(answer, parse_object(answer.body) or {}, Secrets())
    return _is_rejection(answer.status, facts["error"])


def _refusal(answer: Answer, facts: Facts, config: Config, secrets: Secrets) -> TokenRequestError:
    said = _summary(answer, facts, secrets)
    # The status of a server error counts, whatever error code the body has.
    if _is_temporary(answer.status, facts["error"]):
        return TokenUnavailableError(f"the token endpoint is not available: {said}", **facts)
    if _is_rejection(answer.status, facts["error"]):
        return CredentialsRejectedError(
            f"the token endpoint rejected the client {config.client_id!r}: {said}", **facts
        )
    return TokenRequestError(
        f"the token endpoint refused the request: {said}", retryable=False, **facts
    )


def _tokens_in(fields: dict[str, Any] | None) -> list[str]:
    token = (fields or {}).get("access_token")
    return [token] if isinstance(token, str) else []


def _is_rejection(status: int, code: str | None) -> bool:
    if _is_temporary(status, code):
        return False
    return status in (401, 403) or code in _REJECTIONS


def _is_temporary(status: int, code: str | None) -> bool:
    return status >= 500 or status in (408, 425, 429) or code in _TEMPORARY


def _facts(answer: Answer, fields: dict[str, Any], secrets: Secrets) -> Facts:
    def text(*names: str) -> str | None:
        return next((fields[name] for name in names if isinstance(fields.get(name), str)), None)

    # Box sends two formats of errors: that of OAuth, and that of its API with `code`.
    code, description = text("error", "code"), text("error_description", "message")
    request_id = text("request_id") or answer.headers.get("box-request-id")
    return {
        "status_code": answer.status,
        "error": code if code is None or code in _CODES else secrets.name(code),
        "error_description": None if description is None else secrets.quote(description),
        "retry_after": parse_retry_after(
            answer.headers.get("retry-after"), answer.headers.get("date"), time.time()
        ),
        "request_id": None if request_id is None else secrets.name(request_id),
    }


def _outline(answer: Answer, secrets: Secrets) -> str:
    # Nothing of the body, because even a web page may contain a token.
    kind = answer.headers.get("content-type", "").partition(";")[0]
    said = secrets.name(kind) if kind else "no content type"
    return f"status {answer.status}, {said}, {len(answer.body)} bytes"


def _summary(answer: Answer, facts: Facts, secrets: Secrets) -> str:
    if facts["error"] is None:
        return _outline(answer, secrets)
    said = f"status {answer.status}, {facts['error']}"
    return said + (f": {facts['error_description']}" if facts["error_description"] else "")
