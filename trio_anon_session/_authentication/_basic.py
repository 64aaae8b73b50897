"""``client_secret_basic``: id and secret are HTTP Basic credentials (RFC 6749 §2.3.1)."""

from __future__ import annotations

from .._secrets import basic_credentials
from ._credentials import Credentials
from ._post import ClientSecretPost


class ClientSecretBasic(ClientSecretPost):
    """A client that sends its secret in the ``Authorization`` header, and not in the form."""

    __slots__ = ()

    method = "client_secret_basic"

    def _with_secret(self, client_id: str, secret: str, version: str | None) -> Credentials:
        basic = basic_credentials(client_id, secret)
        return Credentials((), {"Authorization": f"Basic {basic}"}, version)
