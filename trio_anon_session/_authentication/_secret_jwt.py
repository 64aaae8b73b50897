"""``client_secret_jwt``: the client signs an assertion with its secret (OpenID Connect Core §9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ConfigError
from .._secrets import async_without_locals, client_secrets
from ._credentials import Credentials, CredentialsUnavailableError
from ._jwt import JWTSettings, algorithm_of, assertion_fields, assertion_of
from ._post import ClientSecretPost
from ._sources import read_secret, version_of

if TYPE_CHECKING:
    from ._credentials import AssertionRequest
    from ._sources import Secret

_ALGORITHM = "HS256"
# RFC 7518 §3.2: at least as long as the output of the hash.
_LEAST_BYTES = 32
_LENGTH = (
    f"must have at least {_LEAST_BYTES} bytes for auth_method 'client_secret_jwt' (RFC 7518 §3.2)"
)


class ClientSecretJWT(ClientSecretPost):
    """A client that sends an assertion, signed with the secret, and never the secret itself."""

    __slots__ = ("_algorithm", "_settings")

    method = "client_secret_jwt"
    advice = (
        "client_id and client_secret (BOX_CLIENT_ID, BOX_CLIENT_SECRET), issuer (BOX_ISSUER) "
        "and this machine's clock"
    )

    def __init__(self, client_id: str, secret: Secret) -> None:
        super().__init__(client_id, secret)
        if isinstance(secret, str) and _is_short(secret):
            raise ConfigError("client_secret", _LENGTH)
        self._algorithm = algorithm_of(_ALGORITHM, f"{self.method!r}")
        self._settings = JWTSettings(_ALGORITHM)

    @async_without_locals
    async def credentials(self, request: AssertionRequest) -> Credentials:
        secret = await read_secret(self._secret.value)
        if _is_short(secret):
            raise CredentialsUnavailableError(f"client_secret {_LENGTH}")
        signing_input = self._settings.signing_input(request)
        signature = self._algorithm.sign(signing_input, secret.encode())
        assertion = assertion_of(signing_input, signature)
        self._remember(*client_secrets(request.client_id, secret), assertion)
        fields = assertion_fields(request.client_id, assertion)
        return Credentials(fields, version=version_of(self._secret.value, secret))


def _is_short(secret: str) -> bool:
    return len(secret.encode()) < _LEAST_BYTES
