"""Ways to authenticate with secrets that change, vanish and break during a life."""

from __future__ import annotations

import itertools
import os
import random
import re
import string
from typing import TYPE_CHECKING, Any

import trio
import trustme

from tests.authentication.mutual_tls.certificates import Pair
from tests.authentication.signing import pem_of
from trio_anon_session import Assertion, AssertionFile, MutualTLS, PrivateKeyJWT, SecretFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .traces import Traces

METHODS = ("client_secret_post", "client_secret_basic", "client_secret_jwt")
WITH_SECRET = ("secret", "secret file", "plain callable", "async callable")
FILES = ("secret file", "assertion file", "key file", "certificate")
CALLABLES = ("provider", "async provider", "signer", "async signer")
KINDS = tuple(dict.fromkeys([*WITH_SECRET, "key", *FILES, *CALLABLES]))
KEYS = {"RSA-2048": "PS256", "P-256": "ES256", "Ed25519": "EdDSA"}
CHANGES = ("rotate", "vanish", "spoil", "raise", "raise a group", "chain", "hang", "wrong type")

_authorities: list[trustme.CA] = []
_pairs: dict[int, Pair] = {}


def _pair(number: int) -> Pair:
    if number not in _pairs:
        _authorities[:] = _authorities or [trustme.CA()]
        _pairs[number] = Pair(_authorities[0], f"client{number}.example")
    return _pairs[number]


class Source:
    """The secrets of a client, old and new.

    Args:
        kind: one of `KINDS`.
        key: one of `KEYS`, for a kind with a key.
        password: the password of the key, or None.
        seed: selects the secrets.
        folder: the folder of files.
        traces: gets all secrets.
    """

    def __init__(
        self, kind: str, key: str, password: str | None, seed: int, folder: Path, traces: Traces
    ) -> None:
        self.kind = kind
        self.key = key
        self.password = password
        self.path = folder / "source"
        self._traces = traces
        self._random = random.Random(seed)
        self._change = "rotate"
        self._numbers = itertools.cycle(range(3))
        if password is not None:
            traces.add(password)
        self.change("rotate")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a config."""
        options: Any = {"algorithm": KEYS[self.key], "key_id": "key-1", "password": self.password}
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            "secret": lambda: {"client_secret": self.text},
            "secret file": lambda: {"client_secret": SecretFile(self.path)},
            "plain callable": lambda: {"client_secret": self._give},
            "async callable": lambda: {"client_secret": self._give_async},
            "key": lambda: {"auth_method": PrivateKeyJWT(self.text, **options)},
            "key file": lambda: {"auth_method": PrivateKeyJWT.from_file(self.path, **options)},
            "assertion file": lambda: {"auth_method": AssertionFile(self.path)},
            "certificate": lambda: {"auth_method": MutualTLS(self.path, password=self.password)},
            "provider": lambda: {"auth_method": Assertion(self._give)},
            "async provider": lambda: {"auth_method": Assertion(self._give_async)},
            "signer": lambda: {"auth_method": PrivateKeyJWT(self._give, algorithm="PS256")},
            "async signer": lambda: {"auth_method": PrivateKeyJWT(self._give_async)},
        }
        return makers[self.kind]()

    def change(self, change: str) -> None:
        """Replace the secret, or make it unusable in some way."""
        self._change = change
        if change == "rotate":
            self.text = self._new_text()
        if self.kind not in FILES:
            return
        self.path.unlink(missing_ok=True)
        content = self.text.encode()
        if change == "rotate":
            self.path.write_bytes(content)
        elif change == "spoil":
            # The secret is in the file, in a form that cannot be used.
            self.path.write_bytes(b"\xff" + content.replace(b"-----END", b"---END"))
        elif change == "wrong type":
            self.path.write_bytes(content.replace(b"PRIVATE", b"PUBLIC") + b"\0")
        elif change == "hang":
            self.path.write_bytes(content * 100)
        elif change == "raise":
            self.path.mkdir()
        elif change == "chain":
            self.path.symlink_to(self.path)

    def _new_text(self) -> str:
        if self.kind in ("key", "key file"):
            text = pem_of(self.key, next(self._numbers), password=self.password).decode()
        elif self.kind == "certificate":
            pair = _pair(next(self._numbers))
            key = pair.key if self.password is None else pair.encrypted_key(self.password)
            self._traces.add(*lines_of(key.decode()))
            return (pair.certificate + key).decode()
        else:
            letters = string.ascii_letters + string.digits + "-_"
            # Letters only would be a harmless word, if it were not known.
            length = self._random.choice([32, 40, 70, 700])
            kind = self._random.choice([string.ascii_lowercase, letters])
            parts = ["".join(self._random.choices(kind, k=length)) for _ in range(3)]
            is_assertion = "assertion" in self.kind or "provider" in self.kind
            text = ".".join(parts) if is_assertion else parts[0]
        self._traces.add(*lines_of(text))
        return text

    def _give(self, *args: Any) -> Any:
        for arg in args:
            if isinstance(arg, bytes):
                self._traces.add(arg.decode())
        text = self.text + "".join(arg.decode() for arg in args if isinstance(arg, bytes))
        if self._change == "vanish":
            raise OSError(2, text, text)
        if self._change == "raise":
            raise ValueError(text)
        if self._change == "raise a group":
            raise ExceptionGroup(text, [ValueError(text), KeyError(text)])
        if self._change == "chain":
            try:
                raise RuntimeError(text)
            except RuntimeError as error:
                raise UnicodeDecodeError("utf-8", text.encode(), 0, 1, text) from error
        if self._change == "wrong type":
            return [text]
        if self._change == "spoil":
            return f"{text}\ud800"
        if "signer" in self.kind:
            signature = bytes(self._random.randbytes(256))
            self._traces.add(*[signature.hex()])
            return signature
        return self.text

    async def _give_async(self, *args: Any) -> Any:
        if self._change == "hang":
            local = self.text  # noqa: F841  # in the frame of a cancellation
            await trio.sleep_forever()
        return self._give(*args)


def lines_of(text: str) -> list[str]:
    """Return the secret lines of PEM text or another text."""
    if "-----BEGIN" not in text:
        return [text]
    body = re.sub(r"-----[^-]+-----", "", text)
    return [*body.split(), "".join(body.split())]


def wrong_attempts(source: Source) -> list[Callable[[], object]]:
    """Return attempts to create objects from wrong material, as by mistake."""
    pem = pem_of("P-256", 1).decode()
    locked = pem_of("P-256", 1, password="a-password-of-a-key").decode()
    source._traces.add(*lines_of(pem), *lines_of(locked), "a-password-of-a-key")
    text, path = source.text, os.fspath(source.path)
    tries: list[Callable[[], object]] = [
        lambda: PrivateKeyJWT(pem),
        lambda: PrivateKeyJWT(pem.replace("\n", r"\n"), algorithm="ES256"),
        lambda: PrivateKeyJWT(pem[:-60], algorithm="ES256"),
        lambda: PrivateKeyJWT(pem.replace("M", "N"), algorithm="ES256"),
        lambda: PrivateKeyJWT(locked, algorithm="ES256"),
        lambda: PrivateKeyJWT(locked, algorithm="ES256", password=pem),
        lambda: PrivateKeyJWT(pem, algorithm="ES256", password=pem),
        lambda: PrivateKeyJWT(pem, algorithm=pem),
        lambda: PrivateKeyJWT(pem, algorithm="ES256", lifetime=pem),  # type: ignore[arg-type]  # wrong on purpose
        lambda: PrivateKeyJWT(pem, algorithm="ES256", claims={pem: 1, "": 2}),
        lambda: PrivateKeyJWT(pem, algorithm="ES256", headers={"x": {pem}}),
        lambda: PrivateKeyJWT.from_file(pem),
        lambda: PrivateKeyJWT.from_file(path + "x", password=pem),
        lambda: MutualTLS(pem),
        lambda: MutualTLS(path, pem),
        lambda: MutualTLS(path, password=pem * 10),
        lambda: MutualTLS(path, password=text[:20] + "wrong"),
        lambda: AssertionFile(pem),
        lambda: AssertionFile(text.encode()),  # type: ignore[arg-type]  # wrong on purpose
        lambda: SecretFile(pem),
        lambda: Assertion(text),  # type: ignore[arg-type]  # wrong on purpose
    ]
    return tries
