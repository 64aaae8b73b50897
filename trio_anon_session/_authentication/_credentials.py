"""The seam between `TokenManager` and the ways in which a client authenticates.

Before each attempt, the manager asks for `Credentials`: form fields and headers of one request.
A way to authenticate decides what they are, and remembers every text in them that is secret. It may
also provide the TLS context of the connection, for a client certificate.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

import attrs

from .._secrets import Secrets, Unpicklable, UnpicklableValue, digest, without_locals
from .._values import Value

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Mapping

REMEMBERED = 10
"""The number of values for which `ClientAuthentication.secrets` remembers the texts."""
_PART = 256
"""Characters. `Secrets` compares only the beginning of a long text, so a text is cut in parts."""
_OVERLAP = 16
"""Characters at the end of a part that the next one repeats. So no part is shorter than this, and
harmless words do not contain it."""


@attrs.frozen(eq=False, repr=False)
class AssertionRequest(Value):
    """The request for which credentials are needed.

    Attributes:
        client_id: the client id.
        token_url: the token endpoint.
        issuer: the issuer of the authorization server, or None if it is not configured.
        attempt: 1; or 2 if the server answered ``invalid_client`` to the credentials of attempt 1.
            A provider with a cache should then skip its cache.
    """

    client_id: str
    token_url: str
    issuer: str | None = None
    attempt: int = 1


class Credentials(Unpicklable):
    """The credentials of one request. It has no repr, because a traceback can show it.

    Args:
        fields: form fields.
        headers: headers.
        version: identifies the secret, key or assertion. If the server answers ``invalid_client``
            and the version has changed in the meantime, the session tries again soon. None: it
            cannot change.
    """

    __slots__ = ("fields", "headers", "version")

    def __init__(
        self,
        fields: Iterable[tuple[str, str]],
        headers: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> None:
        self.fields = tuple(fields)
        self.headers = dict(headers or {})
        self.version = version


class CredentialsUnavailableError(Exception):
    """The credentials of a client cannot be read or made.

    The message begins with the name of the setting, and contains no secret.

    Attributes:
        is_local: whether a file is missing or cannot be read, so that a retry cannot help until
            somebody repairs it.
    """

    def __init__(self, message: str, *, is_local: bool = False) -> None:
        super().__init__(message)
        self.is_local = is_local


class ClientAuthentication(UnpicklableValue):
    """One way in which a client authenticates.

    A subclass implements `credentials`, and passes each secret to `_remember` before it returns it.

    Attributes:
        method: the name of the way in the metadata of a server (RFC 8414).
        advice: what to check if the server rejects the client, as the object of a sentence.
    """

    __slots__ = ("_lock", "_used")

    method: ClassVar[str]
    advice: ClassVar[str] = "client_id and client_secret (BOX_CLIENT_ID, BOX_CLIENT_SECRET)"

    def __init__(self) -> None:
        self._used: dict[str, Secrets] = {}
        self._lock = threading.Lock()

    async def credentials(self, request: AssertionRequest) -> Credentials:
        """Return the credentials for one attempt.

        Raises:
            CredentialsUnavailableError: a secret, key, certificate or assertion cannot be read or
                made.
        """
        raise NotImplementedError

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context with the client's certificate, or None for the default."""
        return None

    def secrets(self) -> Secrets:
        """Return the secret texts of the last credentials, for scrubbing."""
        return Secrets().and_also(*self._used.values())

    @without_locals
    def _remember(self, *texts: str) -> None:
        """Remember secret texts that are about to be used."""
        key = digest("\n".join(texts))
        known = self._used.get(key) or Secrets(*parts_of(*texts))
        # Sessions of several threads may share this object. They read the dict without the lock,
        # so it is replaced: they never see it without these texts.
        with self._lock:
            used = {other: secrets for other, secrets in self._used.items() if other != key}
            # A dict is ordered by insertion.
            self._used = dict([*used.items(), (key, known)][-REMEMBERED:])


def parts_of(*texts: str) -> Iterator[str]:
    """Yield the parts of long texts that `Secrets` compares completely."""
    for text in texts:
        for at in range(0, max(1, len(text) - _OVERLAP), _PART):
            yield text[at : at + _PART + _OVERLAP]
