"""Tests of `PrivateKeyJWT`: refused keys and settings, and what errors and repr show."""

from __future__ import annotations

import copy
import math
import pickle
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

import trio_anon_session
from tests.authentication.mutual_tls.certificates import Pair
from tests.authentication.signing import (
    ALGORITHMS,
    CLIENT_ID,
    FITTING,
    PASSWORD,
    accepts,
    assertion_in,
    key_of,
    pem_of,
)
from tests.helpers import make_config, run_virtually, traceback_with_locals
from tests.http.endpoint import Endpoint, grant, says, sent_by
from trio_anon_session import Config, ConfigError, PrivateKeyJWT, TokenUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

TOKEN_URL = "https://id.example/token"
RSA = pem_of("RSA-2048")
EC = partial(PrivateKeyJWT, pem_of("P-256"), algorithm="ES256")
PUBLIC = (
    key_of("P-256")
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)
DER = key_of("P-256").private_bytes(
    serialization.Encoding.DER,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
OPENSSL = serialization.PrivateFormat.TraditionalOpenSSL


def parts_of(*secrets: str | bytes) -> set[str]:
    """Return each run of 16 characters in a line of these texts, except PEM header lines."""
    runs = set()
    for secret in secrets:
        text = secret.decode("latin-1") if isinstance(secret, bytes) else secret
        for line in re.split(r"\n|\\n", text):
            if line and not line.startswith("-----"):
                runs |= {line[at : at + 16] for at in range(max(1, len(line) - 15))}
    return runs


def assert_hidden(error: BaseException, *secrets: str | bytes) -> None:
    """Assert that neither an error nor its traceback shows a part of a secret."""
    shown = "\n".join([*traceback_with_locals(error), str(error), repr(error)])
    assert not [part for part in parts_of(*secrets) if part in shown]
    assert (error.__context__, error.__cause__) == (None, None)


WRONG_KEYS: list[tuple[str, str, bytes, dict[str, Any]]] = [
    ("key", "PEM text that begins with -----BEGIN, or a callable; to read", b"x.pem", {}),
    ("key", "begins with -----BEGIN", b"", {}),
    ("key", "begins with -----BEGIN", DER, {}),
    ("key", "private key in PEM format, got 'PUBLIC KEY'", PUBLIC, {}),
    ("key", "private key in PEM format, got no PEM text", b"-----BEGIN", {}),
    ("key", "line ends in its PEM text", RSA.replace(b"\n", b"\\n"), {}),
    ("key", "got a damaged or unsupported one", RSA[:300] + RSA[310:], {}),
    ("key", "at least 2048 bits.*got 1024 bits", pem_of("RSA-1024"), {}),
    ("key", "P-256, P-384 or P-521.*got EC on secp256k1", pem_of("secp256k1"), {}),
    ("key", "got X25519", pem_of("X25519"), {}),
    ("password", "must be set, because", pem_of("P-256", password=PASSWORD), {}),
    ("password", "must be set, because", pem_of("P-256", password=PASSWORD, form=OPENSSL), {}),
    (
        "password",
        "must be the password of the key",
        pem_of("P-256", password=PASSWORD),
        {"password": "misplaced-password"},
    ),
    ("password", "must be None, because", RSA, {"password": "misplaced-password"}),
]


@pytest.mark.parametrize("is_file", [False, True], ids=["text", "file"])
@pytest.mark.parametrize(("field", "reason", "pem", "settings"), WRONG_KEYS)
def test_a_key_that_cannot_be_used_is_refused(
    tmp_path: Path, field: str, reason: str, pem: bytes, settings: dict[str, Any], is_file: bool
) -> None:
    """A ConfigError names the setting and the problem, and shows no part of the key."""
    file = tmp_path / "key.pem"
    file.write_bytes(pem)
    with pytest.raises(ConfigError) as caught:
        if is_file:
            PrivateKeyJWT.from_file(file, algorithm="ES256", **settings)
        else:
            PrivateKeyJWT(pem, algorithm="ES256", **settings)
    message = str(caught.value)
    assert caught.value.field == field
    assert str(file) in message if is_file else re.search(reason, message)
    assert_hidden(caught.value, pem, *settings.values())


@pytest.mark.parametrize("kind", FITTING)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_algorithm_must_fit_the_key(kind: str, algorithm: str) -> None:
    """An algorithm that does not fit the key is refused, and the error lists those that fit."""
    make = partial(PrivateKeyJWT, pem_of(kind), algorithm=algorithm)
    if algorithm in FITTING[kind]:
        make()
        return
    with pytest.raises(ConfigError, match=r"^algorithm must be .* for this key \(") as caught:
        make()
    assert all(repr(name) in str(caught.value) for name in FITTING[kind])
    assert str(caught.value).endswith(f", got {algorithm!r}")
    assert_hidden(caught.value, pem_of(kind))


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("kind", FITTING)
async def test_the_usual_algorithm_of_a_key(
    autojump_clock: MockClock, tmp_path: Path, kind: str, is_file: bool
) -> None:
    """Without an algorithm, the key decides."""
    file = tmp_path / "key.pem"
    file.write_bytes(pem_of(kind))
    method = PrivateKeyJWT.from_file(file) if is_file else PrivateKeyJWT(pem_of(kind))
    usual = FITTING[kind][0]
    endpoint = Endpoint(accepts(key_of(kind), algorithm=usual, audience=TOKEN_URL))
    await grant(endpoint, Config(client_id=CLIENT_ID, token_url=TOKEN_URL, auth_method=method))
    assert f"algorithm={usual!r}" in repr(method)


@pytest.mark.parametrize(
    "method", ["private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"]
)
def test_the_name_of_a_method_that_needs_an_object(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error shows what to write instead, and that works."""
    monkeypatch.chdir(tmp_path)
    Pair(trustme.CA(), "app").write(tmp_path)
    with pytest.raises(ConfigError, match=r"^auth_method must be an object: ") as caught:
        Config(client_id=CLIENT_ID, auth_method=method)
    shown = re.findall(r"\w+(?:\.\w+)?\([^)]*\)", str(caught.value))
    assert shown
    names = {name: getattr(trio_anon_session, name) for name in trio_anon_session.__all__}
    for expression in shown:
        auth_method = eval(expression, names)
        Config(client_id=CLIENT_ID, token_url=TOKEN_URL, auth_method=auth_method)


def test_the_text_of_an_algorithm_error() -> None:
    """The error names the algorithm to set for this key."""
    with pytest.raises(ConfigError) as caught:
        PrivateKeyJWT(pem_of("P-256"), algorithm="RS256")
    assert str(caught.value) == ("algorithm must be 'ES256' for this key (EC, P-256), got 'RS256'")


WRONG_VALUES: list[tuple[str, str, list[Any]]] = [
    ("algorithm", "or 'EdDSA', got another str", ["none", "HS256", "rs256", ""]),
    ("key_id", "must be a non-empty str or None", [""]),
    ("audience", "must be a non-empty str or None", [""]),
    ("lifetime", "from 1 to", [0, 0.9, -1, math.nan, math.inf, 10**10, 10**400]),
    ("clock_skew", "from 0 to", [-1, math.nan, math.inf, -math.inf, 10**400]),
    ("headers", "must not set 'alg': use algorithm", [{"alg": "none"}]),
    ("headers", "must not set 'kid': use key_id", [{"kid": "k"}]),
    ("headers", "non-empty str names", [{"": "x"}, {1: "x"}]),
    ("headers", "that JSON has", [{"x": b""}, {"x": math.nan}, {"x": {1, 2}}]),
    ("claims", "must not set 'aud': use audience", [{"aud": "x"}]),
    ("claims", "must not set 'exp': use lifetime", [{"exp": 1}]),
    ("claims", "must not set 'iat': use clock_skew", [{"iat": 1}]),
    *(
        ("claims", f"must not set '{name}': the session sets it", [{name: "x"}])
        for name in ("iss", "sub", "jti")
    ),
    ("password", "must be a non-empty str or bytes, or None", ["", b""]),
]
WRONG_TYPES: list[tuple[str, str, list[Any]]] = [
    ("algorithm", "a str or None, not ", [1, b"RS256"]),
    ("key_id", "a str or None, not ", [1, b"k"]),
    ("audience", "a str or None, not ", [["x"]]),
    ("lifetime", "a number, not ", ["1", True, None]),
    ("clock_skew", "a number, not ", ["1", True, None]),
    ("headers", "a mapping, not ", [None, [("x", "y")]]),
    ("claims", "a mapping, not ", [None, "x"]),
    ("password", "a str, bytes or None, not ", [1]),
]


@pytest.mark.parametrize(("field", "reason", "values"), WRONG_VALUES)
def test_a_wrong_value_is_refused(field: str, reason: str, values: list[Any]) -> None:
    """A wrong value is a ConfigError that names the argument and what it must be."""
    for value in values:
        with pytest.raises(ConfigError) as caught:
            EC(**{field: value})
        assert caught.value.field == field
        assert reason in caught.value.wants


@pytest.mark.parametrize(("field", "reason", "values"), WRONG_TYPES)
def test_a_wrong_type_is_refused(field: str, reason: str, values: list[Any]) -> None:
    """A wrong type is a TypeError that names the argument, both types, and no value."""
    for value in values:
        with pytest.raises(TypeError) as caught:
            EC(**{field: value})
        assert str(caught.value) == f"{field} must be {reason}{type(value).__name__}"


def test_a_cyclic_claim() -> None:
    """A cyclic claim is refused like any other value that JSON does not have."""
    cyclic: list[object] = []
    cyclic.append(cyclic)
    with pytest.raises(ConfigError, match="that JSON has"):
        EC(claims={"x": cyclic})


@pytest.mark.parametrize("key", [None, 1, [b"x"], Path("/key.pem")])
def test_a_key_of_a_wrong_type_is_refused(key: Any) -> None:
    """A path, or another object that is no key, raises a TypeError."""
    with pytest.raises(TypeError, match=f"str, bytes or a callable, not {type(key).__name__}$"):
        PrivateKeyJWT(key)


def test_a_callable_has_no_password() -> None:
    """A password together with a callable is a ConfigError."""
    with pytest.raises(ConfigError, match="password must be None, because key is a callable"):
        PrivateKeyJWT(lambda signing_input: b"x", password=PASSWORD)


async def fails(signing_input: bytes) -> bytes:
    raise ValueError(signing_input)


@pytest.mark.parametrize(
    ("sign", "algorithm", "reason"),
    [
        (fails, "RS256", "raised ValueError"),
        (lambda given: None, "RS256", "must return bytes, not NoneType"),
        (lambda given: given.decode(), "RS256", "must return bytes, not str"),
        (lambda given: b"", "RS256", "must return a signature, not empty bytes"),
        (lambda given: bytes(10**5), "RS256", "must return at most 65536 bytes"),
        (lambda given: bytes(70), "ES256", "must return 64 bytes for ES256.*not DER; got 70"),
        (lambda given: bytes(64), "ES384", "must return 96 bytes"),
        (lambda given: bytes(139), "ES512", "must return 132 bytes"),
    ],
)
async def test_a_callable_that_does_not_sign(
    sign: Callable[[bytes], Any], algorithm: str, reason: str
) -> None:
    """If a callable returns no valid signature, nothing is sent, and the attempt fails."""
    endpoint = Endpoint(says())
    config = Config(client_id="id", auth_method=PrivateKeyJWT(sign, algorithm=algorithm))
    with pytest.raises(TokenUnavailableError, match=f"key: the callable {reason}") as caught:
        await grant(endpoint, config)
    assert not endpoint.requests
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)


def test_equal_settings_are_equal(tmp_path: Path) -> None:
    """Two objects are equal, with the same hash, if all settings and the key's source are equal."""

    def sign(signing_input: bytes) -> bytes:
        return signing_input

    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(pem_of())

    def all_kinds() -> list[PrivateKeyJWT]:
        return [
            EC(),
            EC(key_id="k"),
            EC(audience="a"),
            EC(lifetime=61),
            EC(clock_skew=1),
            EC(claims={"a": [1]}),
            EC(headers={"a": [1]}),
            PrivateKeyJWT(pem_of("P-256", 1), algorithm="ES256"),
            PrivateKeyJWT(sign),
            PrivateKeyJWT(sign, algorithm="PS256"),
            *(PrivateKeyJWT.from_file(file, algorithm="ES256") for file in files),
        ]

    first, second = all_kinds(), all_kinds()
    for nth, one in enumerate(first):
        assert [one == other for other in second] == [at == nth for at in range(len(second))]
        assert hash(one) == hash(second[nth])
    assert EC() != "EC"


def test_a_repr_shows_no_key(tmp_path: Path) -> None:
    """The repr has algorithm, key id and file, and no key."""
    file = tmp_path / "key.pem"
    file.write_bytes(pem_of())
    from_file = PrivateKeyJWT.from_file(file, algorithm="ES256")

    assert repr(EC(key_id="k")) == "PrivateKeyJWT(..., algorithm='ES256', key_id='k')"
    assert repr(from_file) == f"PrivateKeyJWT.from_file({str(file)!r}, algorithm='ES256')"
    assert repr(from_file) in repr(Config(client_id="id", auth_method=from_file))


def test_a_key_is_not_pickled() -> None:
    """An object with a key cannot be pickled, and a copy of it is the same object."""
    key = EC()
    with pytest.raises(TypeError, match="cannot pickle a PrivateKeyJWT"):
        pickle.dumps(key)
    assert copy.copy(key) is copy.deepcopy(key) is key


@pytest.mark.parametrize(
    ("kind", "form"), [("RSA-2048", OPENSSL), ("P-256", OPENSSL), ("P-256", None)]
)
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_a_key_among_other_blocks(
    kind: str, form: serialization.PrivateFormat | None, password: str | None
) -> None:
    """The PEM text of a key may also contain other text and blocks."""
    key = pem_of(kind, password=password, form=form or serialization.PrivateFormat.PKCS8)
    text = "Bag Attributes\n" + PUBLIC.decode().strip() + key.decode() + PUBLIC.decode()
    PrivateKeyJWT(text, algorithm=FITTING[kind][0], password=password)


@pytest.mark.parametrize("secret", ["x" * 31, "é" * 15 + "x"])
async def test_a_secret_that_is_too_short_to_sign(secret: str) -> None:
    """A short secret is a ConfigError; one that a callable returns makes the attempt fail."""
    reason = "client_secret must have at least 32 bytes for auth_method 'client_secret_jwt'"
    with pytest.raises(ConfigError, match=reason) as caught:
        make_config(client_secret=secret, auth_method="client_secret_jwt")
    assert_hidden(caught.value, secret)
    endpoint = Endpoint(says())
    config = make_config(client_secret=lambda: secret, auth_method="client_secret_jwt")
    with pytest.raises(TokenUnavailableError, match=reason):
        await grant(endpoint, config)
    assert not endpoint.requests


@pytest.mark.parametrize("secret", ["x" * 32, "é" * 16, PUBLIC.decode().strip()])
def test_a_secret_of_32_bytes_signs(secret: str) -> None:
    """A secret of 32 bytes signs, even if it looks like a key."""
    config = make_config(client_secret=secret, auth_method="client_secret_jwt")
    assert assertion_in(run_virtually(sent_by, config))


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_without_the_extra(missing: str) -> None:
    """Without the extra, a ConfigError says how to install it, and a callable can still sign."""
    program = f"""
import sys
sys.modules[{missing!r}] = None
from trio_anon_session import Config, ConfigError, PrivateKeyJWT
for make in (
    lambda: PrivateKeyJWT({pem_of()!r}, algorithm="ES256"),
    lambda: Config(client_id="i", client_secret="x" * 32, auth_method="client_secret_jwt"),
):
    try:
        make()
    except ConfigError as error:
        print(error, error.__context__)
Config(client_id="i", auth_method=PrivateKeyJWT(lambda signing_input: b"x"))
print(not {{"jwt", "cryptography"}} & {{name for name in sys.modules if sys.modules[name]}})
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    install = f"needs {missing}: pip install 'trio_anon_session[jwt]' None\n"
    assert ran.stdout.startswith(
        f"auth_method: PrivateKeyJWT {install}auth_method: 'client_secret_jwt' {install}"
    )
