"""``client_secret_post``: id and secret are form fields (RFC 6749 §2.3.1). Box requires it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._secrets import Hidden, async_without_locals, client_secrets
from ._credentials import ClientAuthentication, Credentials
from ._sources import read_secret, version_of

if TYPE_CHECKING:
    from ._credentials import AssertionRequest
    from ._sources import Secret


class ClientSecretPost(ClientAuthentication):
    """A client that sends its secret in the form."""

    __slots__ = ("_secret",)

    method = "client_secret_post"

    def __init__(self, client_id: str, secret: Secret) -> None:
        super().__init__()
        self._secret = Hidden(secret)
        if isinstance(secret, str):
            self._remember(*client_secrets(client_id, secret))

    @async_without_locals
    async def credentials(self, request: AssertionRequest) -> Credentials:
        secret = await read_secret(self._secret.value)
        self._remember(*client_secrets(request.client_id, secret))
        version = version_of(self._secret.value, secret)
        return self._with_secret(request.client_id, secret, version)

    def _with_secret(self, client_id: str, secret: str, version: str | None) -> Credentials:
        fields = (("client_id", client_id), ("client_secret", secret))
        return Credentials(fields, version=version)
