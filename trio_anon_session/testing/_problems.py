"""What can be wrong with an assertion, as the server reports it in ``error_description``."""

from __future__ import annotations

from typing import Literal

from ._answers import RefusedError

AssertionProblem = Literal[
    "type",
    "malformed",
    "client",
    "algorithm",
    "unknown_key",
    "signature",
    "missing_claim",
    "issuer",
    "subject",
    "audience",
    "expired",
    "too_long",
    "from_the_future",
    "replayed",
]
"""The checks of an assertion, in their order."""

# RFC 6749 §5.2 allows no quotes in these texts.
DESCRIPTIONS: dict[AssertionProblem, str] = {
    "type": "The client_assertion_type is wrong",
    "malformed": "The assertion is neither a signed JWT nor a registered text",
    "client": "The assertion is from an unknown client, or client_id names another one",
    "algorithm": "The algorithm (alg) of the assertion is not allowed",
    "unknown_key": "No key is registered for the assertion or its key id (kid)",
    "signature": "The signature of the assertion is wrong",
    "missing_claim": "The assertion lacks a required claim, or a claim has the wrong type",
    "issuer": "The issuer (iss) of the assertion is wrong",
    "subject": "The subject (sub) of the assertion is wrong",
    "audience": "The audience (aud) of the assertion is wrong",
    "expired": "The assertion has expired (exp)",
    "too_long": "The assertion is valid for too long (exp)",
    "from_the_future": "The assertion is from the future (iat or nbf)",
    "replayed": "The assertion was used before (jti)",
}


class ClientRefusedError(RefusedError):
    """The error for a client with a wrong assertion or certificate."""

    def __init__(self, description: str) -> None:
        super().__init__("invalid_client", description, 401)


class WrongAssertionError(ClientRefusedError):
    """The error for an assertion that fails a check."""

    def __init__(self, problem: AssertionProblem) -> None:
        super().__init__(DESCRIPTIONS[problem])
        self.problem = problem
