"""Tests of `Config` from environment variables, and from a settings file of Box."""

from __future__ import annotations

import errno
import json
import os
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config_kit import SECRET, assert_hides_secret
from trio_anon_session import Config, ConfigError, SecretFile

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {
    "BOX_CLIENT_ID": "the id",
    "BOX_CLIENT_SECRET": SECRET,
    "BOX_API_ROOT_URL": "https://api.example",
    "BOX_TOKEN_URL": "https://id.example/t",
    "BOX_REVOKE_URL": "https://id.example/r",
    "BOX_AUTH_METHOD": "client_secret_basic",
    "BOX_ISSUER": "https://id.example/tenant",
    "BOX_SCOPE": "a b",
    "BOX_SUBJECT_TYPE": "user",
    "BOX_SUBJECT_ID": "7",
}


class TestFromEnv:
    def test_all(self) -> None:
        """Every documented variable is read."""
        assert Config.from_env(ENVIRONMENT | {"BOX_OTHER": "x", "PATH": "y"}) == Config(
            client_id="the id",
            client_secret=SECRET,
            api_root_url="https://api.example",
            token_url="https://id.example/t",
            revoke_url="https://id.example/r",
            auth_method="client_secret_basic",
            issuer="https://id.example/tenant",
            scope="a b",
            box_subject_type="user",
            box_subject_id="7",
        )

    def test_least(self) -> None:
        """Id and secret are enough, and an empty variable counts as missing."""
        least = {name: ENVIRONMENT[name] for name in ("BOX_CLIENT_ID", "BOX_CLIENT_SECRET")}
        expected = Config(client_id="the id", client_secret=SECRET)
        assert Config.from_env(least) == expected
        assert Config.from_env(dict.fromkeys(ENVIRONMENT, "") | least) == expected

    def test_real_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an argument, the current environment of the process is read."""
        monkeypatch.setenv("BOX_CLIENT_ID", "from-env")
        monkeypatch.setenv("BOX_CLIENT_SECRET", SECRET)
        assert "BOX_SCOPE" not in os.environ
        assert Config.from_env().client_id == "from-env"
        monkeypatch.setenv("BOX_CLIENT_ID", "changed")
        assert Config.from_env().client_id == "changed"

    @pytest.mark.parametrize(
        ("variables", "field"),
        [
            (["BOX_CLIENT_ID"], "client_id"),
            (["BOX_CLIENT_SECRET"], "client_secret"),
            (["BOX_CLIENT_ID", "BOX_CLIENT_SECRET"], "client_id"),
        ],
    )
    def test_missing(self, variables: list[str], field: str) -> None:
        """The error names each variable that is missing or empty."""
        without = {name: value for name, value in ENVIRONMENT.items() if name not in variables}
        for environ in (without, ENVIRONMENT | dict.fromkeys(variables, "")):
            with pytest.raises(
                ConfigError, match=f"must be set: export {' and '.join(variables)} with"
            ) as caught:
                Config.from_env(environ)
            assert caught.value.field == field
            assert_hides_secret(caught.value)

    @pytest.mark.parametrize(
        ("field", "variable", "value"),
        [
            ("client_id", "CLIENT_ID", "\ud800"),
            ("client_secret", "CLIENT_SECRET", SECRET + "\ud800"),
            ("api_root_url", "API_ROOT_URL", "api.box.com"),
            ("token_url", "TOKEN_URL", "http://api.box.com"),
            ("revoke_url", "REVOKE_URL", "http://api.box.com"),
            ("issuer", "ISSUER", "https://id.example?tenant=1"),
            ("scope", "SCOPE", "a  b"),
            ("box_subject_type", "SUBJECT_TYPE", "group"),
            ("box_subject_id", "SUBJECT_ID", "\ud800"),
        ],
    )
    @pytest.mark.parametrize("prefix", ["BOX_", "ACME_"])
    def test_wrong(self, field: str, variable: str, value: str, prefix: str) -> None:
        """A wrong variable is refused like its setting, and the error has both names."""
        with pytest.raises(ConfigError) as caught:
            Config.from_env(with_prefix(prefix) | {prefix + variable: value}, prefix=prefix)
        assert caught.value.field == field
        assert str(caught.value).startswith(field)
        assert str(caught.value).endswith(f" (from {prefix}{variable})")
        assert_hides_secret(caught.value)

    def test_half_a_subject(self) -> None:
        """An error about a missing variable names no other variable."""
        with pytest.raises(ConfigError, match=r"go together$") as caught:
            Config.from_env(ENVIRONMENT | {"BOX_SUBJECT_ID": ""})
        assert caught.value.field == "box_subject_id"

    @given(prefix=st.text(max_size=10).map(lambda text: text and f"{text}_"))
    def test_prefix(self, prefix: str) -> None:
        """Only the variables with the prefix are read."""
        others = {"XBOX_SCOPE": "no", "box_SCOPE": "no", "SCOPE_": "no"}
        config = Config.from_env(others | with_prefix(prefix), prefix=prefix)
        assert config == Config.from_env(ENVIRONMENT)
        assert config.client_secret == SECRET

    @given(prefix=st.text(min_size=1).filter(lambda text: not text.endswith("_")))
    def test_a_prefix_without_an_underscore(self, prefix: str) -> None:
        """A prefix such as ``ACME`` is an error, because it would read ``ACMECLIENT_ID``."""
        with pytest.raises(ConfigError, match=r"^prefix must end with '_'"):
            Config.from_env(with_prefix(prefix), prefix=prefix)

    def test_wrong_prefix(self) -> None:
        """A prefix of a wrong type raises a TypeError."""
        with pytest.raises(TypeError, match=r"^prefix must be a str, not NoneType$"):
            Config.from_env(ENVIRONMENT, prefix=None)  # type: ignore[arg-type]  # wrong on purpose

    @pytest.mark.parametrize(
        ("missing", "instead"),
        [
            (["CLIENT_ID"], False),
            (["CLIENT_SECRET"], True),
            (["CLIENT_ID", "CLIENT_SECRET"], True),
        ],
    )
    def test_missing_with_a_prefix(self, missing: list[str], instead: bool) -> None:
        """With another prefix, the error lists its variables for the other ways to authenticate."""
        environ = with_prefix("ACME_")
        for name in missing:
            del environ[f"ACME_{name}"]
        variables = " and ".join(f"ACME_{name}" for name in missing)
        more = (
            "; instead of ACME_CLIENT_SECRET, you can export ACME_CLIENT_SECRET_FILE, "
            "ACME_CLIENT_KEY_FILE, ACME_CLIENT_ASSERTION_FILE or ACME_CLIENT_CERT_FILE"
        )
        with pytest.raises(ConfigError) as caught:
            Config.from_env(environ, prefix="ACME_")
        assert caught.value.wants == f"must be set: export {variables}{more if instead else ''}"


def with_prefix(prefix: str) -> dict[str, str]:
    """Return the environment with another prefix instead of ``BOX_``."""
    return {prefix + name.removeprefix("BOX_"): value for name, value in ENVIRONMENT.items()}


WAYS = {
    "CLIENT_SECRET": ["client_secret_post", "client_secret_basic"],
    "CLIENT_SECRET_FILE": ["client_secret_post", "client_secret_basic"],
    "CLIENT_KEY_FILE": ["private_key_jwt"],
    "CLIENT_ASSERTION_FILE": ["private_key_jwt"],
    "CLIENT_CERT_FILE": ["tls_client_auth", "self_signed_tls_client_auth"],
}
"""The variables that select a way to authenticate, and the values of AUTH_METHOD that agree."""
METHODS = sorted({method for methods in WAYS.values() for method in methods})
OPTIONS = {
    "CLIENT_KEY_ID": "CLIENT_KEY_FILE",
    "CLIENT_KEY_ALGORITHM": "CLIENT_KEY_FILE",
    "CLIENT_CERT_KEY_FILE": "CLIENT_CERT_FILE",
}


class TestWaysFromEnv:
    """Variables that say how the client authenticates."""

    @pytest.mark.parametrize("method", [None, "client_secret_basic"])
    def test_secret_file(self, tmp_path: Path, method: str | None) -> None:
        """A secret in a file is a SecretFile, for each method with a secret."""
        environ = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_SECRET_FILE": str(tmp_path / "no such")}
        config = Config.from_env(environ | ({"BOX_AUTH_METHOD": method} if method else {}))
        assert config.client_secret == SecretFile(tmp_path / "no such")
        assert config.auth_method == (method or "client_secret_post")

    @given(ways=st.sets(st.sampled_from(list(WAYS)), min_size=2))
    def test_only_one(self, ways: set[str]) -> None:
        """Several ways are refused, and the error names all of their variables."""
        environ = {"ACME_CLIENT_ID": "id"} | {f"ACME_{way}": SECRET for way in ways}
        with pytest.raises(ConfigError, match="auth_method must be one way") as caught:
            Config.from_env(environ, prefix="ACME_")
        assert set(re.findall(r"ACME_\w+", str(caught.value))) == {f"ACME_{way}" for way in ways}
        assert_hides_secret(caught.value)

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("method", [*METHODS, SECRET])
    def test_method_must_agree(self, way: str, method: str) -> None:
        """If two variables contradict each other, the error names both and the right methods."""
        if method in WAYS[way]:
            return
        environ = {"X_CLIENT_ID": "id", f"X_{way}": SECRET, "X_AUTH_METHOD": method}
        with pytest.raises(ConfigError, match=f"must agree with X_{way}: unset X_AUTH_") as caught:
            Config.from_env(environ, prefix="X_")
        assert caught.value.field == "auth_method"
        assert all(repr(name) in str(caught.value) for name in WAYS[way])
        assert_hides_secret(caught.value)

    @pytest.mark.parametrize("option", OPTIONS)
    def test_option_without_its_way(self, option: str) -> None:
        """A variable that has no effect is refused, because another one may be misspelt."""
        environ = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_SECRET": SECRET, f"BOX_{option}": "x"}
        said = f"must be set by BOX_{OPTIONS[option]}, because BOX_{option} is set"
        with pytest.raises(ConfigError, match=said) as caught:
            Config.from_env(environ)
        assert_hides_secret(caught.value)


APP = {"clientID": "the id", "clientSecret": SECRET, "appAuth": {"publicKeyID": ""}}


class TestFromBoxJson:
    def read(self, path: Path, document: object) -> Config:
        """Return the config of a file with this content."""
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        path.write_bytes(raw)
        return Config.from_box_json(path)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Return the path of the file."""
        return tmp_path / "box config.json"

    def test_app(self, path: Path) -> None:
        """Id and secret come from the app's settings."""
        expected = Config(client_id="the id", client_secret=SECRET)
        assert self.read(path, {"boxAppSettings": APP}) == expected
        assert Config.from_box_json(str(path)) == expected

    @pytest.mark.parametrize(
        ("enterprise", "subject"),
        [
            *((given, ("enterprise", "123")) for given in ("123", 123)),
            # These apps belong to no enterprise.
            *((given, (None, None)) for given in ("0", 0, "", None)),
        ],
        ids=ascii,
    )
    def test_enterprise(self, path: Path, enterprise: object, subject: tuple[object, ...]) -> None:
        """The enterprise of the file becomes the subject."""
        config = self.read(path, {"boxAppSettings": APP, "enterpriseID": enterprise})
        assert (config.box_subject_type, config.box_subject_id) == subject

    @pytest.mark.parametrize("enterprise", [["1"], {"id": "1"}, True, 1.5])
    def test_wrong_enterprise(self, path: Path, enterprise: object) -> None:
        """An enterprise id that is neither a string nor a whole number is refused by name."""
        with pytest.raises(ConfigError, match=r"must be a string in .*box config\.json") as caught:
            self.read(path, {"boxAppSettings": APP, "enterpriseID": enterprise})
        assert caught.value.field == "enterpriseID"
        assert_hides_secret(caught.value)

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_encodings(self, path: Path, encoding: str) -> None:
        """A file with a byte order mark, as some editors write it, is read."""
        text = json.dumps({"boxAppSettings": APP}, ensure_ascii=False)
        assert self.read(path, text.encode(encoding)).client_secret == SECRET

    def test_missing_file(self, path: Path) -> None:
        """The error for a missing file has its name, and the message of the system."""
        said = f"cannot be read: {os.strerror(errno.ENOENT)}"
        with pytest.raises(ConfigError, match=rf"box config\.json' {said}") as caught:
            Config.from_box_json(path)
        assert caught.value.field == "path"
        assert_hides_secret(caught.value)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            json.dumps({"boxAppSettings": APP}).encode()[:-1],
            b"\xff\xfe\xff",
            b"[" * 100_000,
            b'{"boxAppSettings": ' + b"9" * 5000 + b"}",
            f"clientSecret = {SECRET}".encode(),
        ],
        ids=["empty", "cut short", "no text", "deep", "an enormous number", "another format"],
    )
    def test_not_json(self, path: Path, raw: bytes) -> None:
        """If the file has no JSON, the error has its name, and shows nothing of it."""
        with pytest.raises(ConfigError, match=r"box config\.json' is not JSON") as caught:
            self.read(path, raw)
        assert_hides_secret(caught.value)
        assert caught.value.__context__ is None

    @pytest.mark.parametrize(
        ("named", "documents"),
        [
            (
                "boxAppSettings",
                [None, [], "text", {}, APP, [{"boxAppSettings": APP}], {"boxAppSettings": [APP]}],
            ),
            (
                "boxAppSettings.clientID",
                [
                    {"boxAppSettings": {}},
                    *({"boxAppSettings": APP | {"clientID": wrong}} for wrong in ("", 1, None)),
                ],
            ),
            (
                "boxAppSettings.clientSecret",
                [
                    {"boxAppSettings": {"clientID": "id"}},
                    *(
                        {"boxAppSettings": APP | {"clientSecret": wrong}}
                        for wrong in ("", [SECRET])
                    ),
                ],
            ),
        ],
    )
    def test_wrong_shape(self, path: Path, named: str, documents: list[object]) -> None:
        """The error names the key that is missing or wrong, and the file."""
        for document in documents:
            with pytest.raises(ConfigError) as caught:
                self.read(path, document)
            assert caught.value.field == named
            assert str(path) in str(caught.value)
            assert_hides_secret(caught.value)

    def test_unusable_secret(self, path: Path) -> None:
        """A secret that UTF-8 cannot encode is refused, and not shown."""
        broken = {"boxAppSettings": APP | {"clientSecret": SECRET + "\ud800"}}
        with pytest.raises(ConfigError, match="client_secret") as caught:
            self.read(path, broken)
        assert_hides_secret(caught.value)
