"""`Config` from the environment, and from a settings file of Box's developer console."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.unit.config_kit import SECRET, assert_hides_secret
from trio_anon_session import Config, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {
    "BOX_CLIENT_ID": "the id",
    "BOX_CLIENT_SECRET": SECRET,
    "BOX_API_ROOT_URL": "https://api.example",
    "BOX_TOKEN_URL": "https://id.example/t",
    "BOX_REVOKE_URL": "https://id.example/r",
    "BOX_AUTH_METHOD": "client_secret_basic",
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
        """Without an argument the process's own environment is read, as it is then."""
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

    def test_wrong(self) -> None:
        """A wrong variable is refused like the setting that it stands for."""
        with pytest.raises(ConfigError) as caught:
            Config.from_env(ENVIRONMENT | {"BOX_TOKEN_URL": "http://api.box.com"})
        assert caught.value.field == "token_url"
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
        """Return where the file is to be."""
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
        """A byte order mark, as some editors leave it, does no harm."""
        text = json.dumps({"boxAppSettings": APP}, ensure_ascii=False)
        assert self.read(path, text.encode(encoding)).client_secret == SECRET

    def test_missing_file(self, path: Path) -> None:
        """A file that is not there is named, and what the system says of it is told."""
        said = f"cannot be read: {os.strerror(errno.ENOENT)}"
        with pytest.raises(ConfigError, match=rf"box config\.json {said}") as caught:
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
        """A file that holds no JSON is named, and none of it shown."""
        with pytest.raises(ConfigError, match=r"box config\.json is not JSON") as caught:
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
        """A secret that no form can carry is refused without being shown."""
        broken = {"boxAppSettings": APP | {"clientSecret": SECRET + "\ud800"}}
        with pytest.raises(ConfigError, match="client_secret") as caught:
            self.read(path, broken)
        assert_hides_secret(caught.value)
