"""Encryption of records with AES-256-GCM, from the package cryptography.

Without a key, a record can be neither read nor changed. Each record is bound to its place: the
name, the purpose, and the facts that the server holds next to it, such as lifetime and fence. If
any of these is changed, the record no longer fits, and is refused.

An encrypted record is ``sealed1.KEY.TEXT``: KEY is the key's id, eight hexadecimal digits of a
digest. TEXT is nonce and ciphertext in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Sequence

from .._errors import ConfigError
from .._secrets import Unpicklable, with_quiet_init
from ._protocol import StoreError

Key = str | bytes

_PREFIX = "sealed1."
_KEY_LENGTH = 32
_NONCE_LENGTH = 12
NO_KEY = "the stored record is encrypted, and this process has no encryption key"
WRONG_KEYS = "the stored record cannot be decrypted with the encryption keys given"
_KEYS_EXPECTED = "must be 32 random bytes, the same in base64, or a list of such keys"


class MisplacedRecordError(StoreError):
    """Error for a record that one of the keys encrypted, but that was changed or moved."""


def is_sealed(record: str) -> bool:
    """Return whether a record is encrypted, with any key."""
    return record.startswith(_PREFIX)


@with_quiet_init
class Sealing(Unpicklable):
    """A cipher that encrypts records with one key, and decrypts records of several keys.

    Args:
        keys: one key, or several. The first one encrypts.

    Raises:
        ConfigError: a key is invalid, or there is no key.
        ModuleNotFoundError: cryptography is not installed.
    """

    def __init__(self, keys: Key | Sequence[Key]) -> None:
        # Imported here, because cryptography is an extra.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if isinstance(keys, str | bytes):
            keys = (keys,)
        if not isinstance(keys, Sequence) or not keys:
            raise ConfigError("encryption_key", _KEYS_EXPECTED)
        self._ciphers = {}
        for key in map(_key_bytes, keys):
            self._ciphers[_id_of(key)] = AESGCM(key)

    def __repr__(self) -> str:
        return f"<Sealing with {len(self._ciphers)} keys>"

    def seal(self, record: str, *place: str) -> str:
        """Return the encrypted record. It can be decrypted only for the same place."""
        key_id, cipher = next(iter(self._ciphers.items()))
        nonce = secrets.token_bytes(_NONCE_LENGTH)
        text = cipher.encrypt(nonce, record.encode(), _place(*place))
        return f"{_PREFIX}{key_id}.{base64.urlsafe_b64encode(nonce + text).decode()}"

    def open(self, sealed: str, *place: str) -> str:
        """Return the decrypted record.

        Raises:
            MisplacedRecordError: the record was changed, or encrypted for another place.
            StoreError: the record is not encrypted, or with none of the keys.
        """
        key_id, _, text = sealed.removeprefix(_PREFIX).partition(".")
        cipher = self._ciphers.get(key_id) if is_sealed(sealed) else None
        if cipher is not None:
            try:
                found = base64.b64decode(text, altchars=b"-_", validate=True)
                nonce, found = found[:_NONCE_LENGTH], found[_NONCE_LENGTH:]
                return cipher.decrypt(nonce, found, _place(*place)).decode()
            except Exception:  # noqa: S110
                # Raised outside of the handler, without the record.
                pass
            raise MisplacedRecordError(WRONG_KEYS)
        raise StoreError(WRONG_KEYS)


def _place(*parts: str) -> bytes:
    """Return the associated data of a record: different bytes for each place."""
    return json.dumps(["trio_anon_session", *parts]).encode()


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"trio_anon_session encryption key" + key).hexdigest()[:8]


def _key_bytes(key: object) -> bytes:
    if isinstance(key, bytes) and len(key) == _KEY_LENGTH:
        return key
    found = b""
    if isinstance(key, str | bytes):
        text = key.encode(errors="replace") if isinstance(key, str) else key
        # Accept both base64 alphabets, with or without padding.
        text = text.strip().rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        try:
            found = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            found = b""
    if len(found) != _KEY_LENGTH:
        raise ConfigError("encryption_key", _KEYS_EXPECTED)
    return found
