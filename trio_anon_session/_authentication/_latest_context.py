"""A TLS context whose new connections use the latest certificate.

OpenSSL cannot remove a certificate from a context: it keeps one for each type of key, and may go on
to send the old one. And no thread may load a certificate while another one connects. So each
certificate gets a context of its own, and this class passes each new connection to the latest.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Iterable


class LatestContext(ssl.SSLContext):
    """A client's TLS context that stays the same object while its certificate changes.

    Its settings cannot be changed, because the next certificate would undo the changes.

    Args:
        latest: the context of the first certificate.
    """

    _latest: ssl.SSLContext
    _protocols: tuple[str, ...]

    def __new__(cls, latest: ssl.SSLContext) -> Self:  # noqa: ARG004  # as in __init__
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, latest: ssl.SSLContext) -> None:
        object.__setattr__(self, "_protocols", ())
        self.replace(latest)

    def replace(self, latest: ssl.SSLContext) -> None:
        """Use another context for all new connections."""
        object.__setattr__(self, "_latest", latest)

    # An HTTP client calls this method before it connects.
    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Set the protocols that new connections offer."""
        object.__setattr__(self, "_protocols", tuple(alpn_protocols))

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Return a connection of the latest context."""
        return self._current().wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Return a connection of the latest context."""
        return self._current().wrap_socket(*args, **kwargs)

    def _current(self) -> ssl.SSLContext:
        if self._protocols:
            self._latest.set_alpn_protocols(list(self._protocols))
        return self._latest

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise AttributeError(
            "the settings of this context cannot be changed: create your own SSLContext, "
            "and load the certificate with load_cert_chain()"
        )

    __setattr__ = __delattr__ = _refuse
    load_cert_chain = load_default_certs = load_verify_locations = _refuse
    set_ciphers = set_default_verify_paths = _refuse
