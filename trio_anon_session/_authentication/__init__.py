"""The ways in which a client authenticates at the token endpoint (RFC 6749 §2.3).

=====================  =======================================================================
``_credentials``       the seam: `ClientAuthentication` and `Credentials`
``_sources``           reading a secret, key or assertion that may change
``_threads``           the worker threads for that
``_pem``               private keys in PEM text
``_post``              ``client_secret_post``
``_basic``             ``client_secret_basic``
``_assertion``         ``private_key_jwt`` with an assertion from a file or a callable
``_mutual_tls``        ``tls_client_auth``: `MutualTLS`
``_latest_context``    a TLS context whose certificate changes
``_certificates``      what is in a client's certificate
``_jwt``               assembling an assertion that the client signs
``_keys``              private keys, from PEM text or a file
``_secret_jwt``        ``client_secret_jwt``
``_private_key_jwt``   `PrivateKeyJWT`
=====================  =======================================================================

No other module of the package knows how a client authenticates. To add a way, add a file with a
subclass of `ClientAuthentication`, and if it has a name in `Config.auth_method`, a line in
`_BY_NAME`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._credentials import (
    AssertionRequest,
    ClientAuthentication,
    Credentials,
    CredentialsUnavailableError,
)
from ._sources import SecretFile, SecretProvider

if TYPE_CHECKING:
    from ._sources import Secret

__all__ = [
    "NAMES",
    "AssertionRequest",
    "ClientAuthentication",
    "Credentials",
    "CredentialsUnavailableError",
    "SecretFile",
    "SecretProvider",
    "authentication_with_secret",
]

_BY_NAME = {
    "client_secret_post": ("_post", "ClientSecretPost"),
    "client_secret_basic": ("_basic", "ClientSecretBasic"),
    "client_secret_jwt": ("_secret_jwt", "ClientSecretJWT"),
}
NAMES = tuple(_BY_NAME)
"""The values of `Config.auth_method` for a client with a secret, as in RFC 8414."""


def authentication_with_secret(name: str, client_id: str, secret: Secret) -> ClientAuthentication:
    """Return the way with this name, for a client with a secret."""
    module, kind = _BY_NAME[name]
    # Imported here, because most programs use only one way, and some ways need an extra.
    made: Any = getattr(import_module(f"{__name__}.{module}"), kind)
    authentication: ClientAuthentication = made(client_id, secret)
    return authentication
