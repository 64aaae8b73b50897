"""How the server checks an assertion: a JWT that authenticates a client (RFC 7523 §3).

The checks are functions of the assertion, the registered client and the time. PyJWT, of the extra
``jwt``, verifies the signature.
"""

from __future__ import annotations

import heapq
import hmac
import json
import math
from typing import TYPE_CHECKING, Any

import attrs

from ._clients import TrustedIssuer
from ._problems import WrongAssertionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from types import ModuleType

    from ._clients import Client, Key

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""The required ``client_assertion_type`` (RFC 7523 §2.2)."""
MAX_LIFETIME = 300.0
"""Seconds. An assertion that the client signs must expire earlier than this from now."""
MAX_SKEW = 60.0
"""Seconds. The clock of a client may be this much ahead."""

_WITH_SECRET = frozenset({"HS256", "HS384", "HS512"})
_WITH_KEY = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


class UsedIds:
    """The ids (``jti``) of used assertions, until the assertions expire."""

    def __init__(self) -> None:
        self._used: set[tuple[str, str]] = set()
        self._expiry: list[tuple[float, tuple[str, str]]] = []

    def __len__(self) -> int:
        return len(self._used)

    def add(self, client_id: str, jti: str, expires_at: float, now: float) -> bool:
        """Add an id, and return whether it is new."""
        while self._expiry and self._expiry[0][0] <= now:
            self._used.discard(heapq.heappop(self._expiry)[1])
        used = (client_id, jti)
        if used in self._used:
            return False
        self._used.add(used)
        heapq.heappush(self._expiry, (expires_at, used))
        return True


@attrs.frozen(repr=False)
class Assertion:
    """An assertion whose signature is not verified yet. No repr shows it."""

    signed: bytes
    signature: bytes
    header: dict[str, Any]
    claims: dict[str, Any]

    @property
    def algorithm(self) -> str:
        """The algorithm of the signature; empty if the header has none."""
        algorithm = self.header.get("alg")
        return algorithm if isinstance(algorithm, str) else ""


def read_assertion(text: str) -> Assertion | None:
    """Return the parts of an assertion, or None if it is not a signed JWT."""
    jwt = _pyjwt()
    try:
        parts = jwt.PyJWS().decode_complete(text, options={"verify_signature": False})
        claims = json.loads(parts["payload"])
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    # RFC 7515 §4.1.11: a JWT with critical extensions that are not known is invalid.
    if not isinstance(claims, dict) or "crit" in parts["header"]:
        return None
    signed = text.rpartition(".")[0].encode()
    return Assertion(signed, parts["signature"], parts["header"], claims)


def is_registered_text(text: str, client: Client) -> bool:
    """Return whether a text is one that is registered as an assertion of the client."""
    registered = (known for known in client.assertions if isinstance(known, str))
    return any(hmac.compare_digest(text.encode(), known.encode()) for known in registered)


def check_assertion(
    assertion: Assertion,
    client: Client,
    *,
    methods: Collection[str],
    audiences: Collection[str],
    used: UsedIds,
    now: float,
) -> None:
    """Check an assertion of a client.

    Args:
        assertion: the assertion.
        client: the client.
        methods: the methods of authentication that the client may use.
        audiences: the names of this server.
        used: the ids of earlier assertions; gets the id of a valid one.
        now: the time, as seconds since the epoch.

    Raises:
        WrongAssertionError: a check fails.
    """
    claims = assertion.claims
    # RFC 7523 §3: a client is the issuer and the subject of the assertions that it signs.
    trusted = TrustedIssuer(client.client_id, client.client_id, "", client.keys)
    is_own = True
    if assertion.algorithm in _WITH_KEY:
        for known in client.assertions:
            if isinstance(known, TrustedIssuer) and known.issuer == claims.get("iss"):
                trusted, is_own, audiences = known, False, {known.audience}
    # The algorithm selects the kind of key. So no client can sign with a public key as the secret.
    _check_signature(assertion, _keys_for(assertion, client, trusted.keys, methods))
    _check_claims(claims, trusted, audiences, is_own=is_own, now=now)
    if is_own and not used.add(client.client_id, claims["jti"], claims["exp"], now):
        raise WrongAssertionError("replayed")


def _keys_for(
    assertion: Assertion, client: Client, keys: Iterable[Key], methods: Collection[str]
) -> list[str]:
    algorithm = assertion.algorithm
    if algorithm in _WITH_SECRET and "client_secret_jwt" in methods and client.client_secret:
        return [client.client_secret]
    if algorithm not in _WITH_KEY or "private_key_jwt" not in methods:
        raise WrongAssertionError("algorithm")
    key_id = assertion.header.get("kid")
    named = [pem for name, pem in keys if name == key_id is not None]
    found = named or [pem for name, pem in keys if None in (name, key_id)]
    if not found:
        raise WrongAssertionError("unknown_key")
    return found


def _check_signature(assertion: Assertion, keys: Iterable[str]) -> None:
    jwt = _pyjwt()
    algorithm = jwt.algorithms.get_default_algorithms()[assertion.algorithm]
    for key in keys:
        try:
            prepared = algorithm.prepare_key(key)
            is_right = algorithm.verify(assertion.signed, prepared, assertion.signature)
        except (jwt.PyJWTError, ValueError, TypeError):
            # The key is one of another algorithm.
            continue
        if is_right:
            return
    raise WrongAssertionError("signature")


def _check_claims(
    claims: dict[str, Any],
    trusted: TrustedIssuer,
    audiences: Collection[str],
    *,
    is_own: bool,
    now: float,
) -> None:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    expires_at: Any = claims.get("exp")
    begins = [claims[name] for name in ("iat", "nbf") if name in claims]
    texts = [claims.get("iss"), claims.get("sub"), *named, *([claims.get("jti")] if is_own else [])]
    if not (
        all(isinstance(text, str) and text for text in texts)
        and all(map(_is_time, [expires_at, *begins]))
    ):
        raise WrongAssertionError("missing_claim")
    if claims["iss"] != trusted.issuer:
        raise WrongAssertionError("issuer")
    if claims["sub"] != trusted.subject:
        raise WrongAssertionError("subject")
    if not set(named).intersection(audiences):
        raise WrongAssertionError("audience")
    if expires_at <= now:
        raise WrongAssertionError("expired")
    if is_own and expires_at > now + MAX_LIFETIME:
        raise WrongAssertionError("too_long")
    if any(begin > now + MAX_SKEW for begin in begins):
        raise WrongAssertionError("from_the_future")


def _is_time(value: object) -> bool:
    # JSON of Python may contain NaN, which compares with no time.
    is_finite = not isinstance(value, float) or math.isfinite(value)
    return isinstance(value, int | float) and not isinstance(value, bool) and is_finite


def _pyjwt() -> ModuleType:
    # Imported late: only clients with assertions need the extra.
    try:
        import jwt
    except ModuleNotFoundError as error:
        if error.name != "jwt":
            raise
        raise ImportError(
            "TokenServer needs PyJWT to verify an assertion: pip install 'trio_anon_session[jwt]'",
            name="jwt",
        ) from None
    return jwt
