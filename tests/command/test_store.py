"""``--store`` and its key: which store they name, and what ``--show-config`` shows."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_anon_session._cli._store import STORE, STORE_KEY, Place, resolve_store

from .running import COMPLETE, assert_failed, invoke

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tokens.db", Place("sqlite", "tokens.db")),
        ("./a:b", Place("sqlite", "a:b")),
        ("/var/lib/tokens", Place("sqlite", "/var/lib/tokens")),
        ("C:/tokens.db", Place("sqlite", "C:/tokens.db")),
        ("sqlite:tokens.db", Place("sqlite", "tokens.db")),
        ("SQLite:/var/lib/tokens", Place("sqlite", "/var/lib/tokens")),
        ("sqlite:///var/lib/tokens", Place("sqlite", "/var/lib/tokens")),
        ("sqlite:redis://x", Place("sqlite", "redis:/x")),
        ("sqlite:~/tokens.db", Place("sqlite", str(Path("~/tokens.db").expanduser()))),
        ("~nobody-of-this-name/x", Place("sqlite", "~nobody-of-this-name/x")),
        ("redis://localhost", Place("redis", "redis://localhost")),
        ("rediss://user:pass@[::1]:7000/3", Place("redis", "rediss://user:pass@[::1]:7000/3")),
        ("valkey://localhost", Place("redis", "valkey://localhost")),
        ("valkeys://a:1,b", Place("redis", "valkeys://a:1,b")),
        ("unix:///run/valkey.sock?db=2", Place("redis", "unix:///run/valkey.sock?db=2")),
    ],
)
def test_what_is_a_store(text: str, place: Place) -> None:
    """A setting without a scheme is a path; the scheme names the other stores."""
    assert Place.read(text) == place


NO_STORES = [
    *("sqlite:", "sqlite://tokens.db", ":memory:", "sqlite::memory:"),
    *("redis:/localhost", "redis://", "rediss:localhost:6379", "localhost:6379"),
    *("http://localhost", "file:tokens.db", "postgresql://u:hush@h/d", "user:hush@host"),
    *("redis://host/hush", "redis://host?hush=1", "redis://host:hush", "redis://:hush"),
]


@pytest.mark.parametrize("text", ["", "a\0b", *NO_STORES])
def test_a_wrong_store(text: str) -> None:
    """A setting that names no store is exit code 2; the message says where it comes from."""
    by_flag = invoke("token", "--store", text, environ=COMPLETE)
    assert_failed(by_flag, 2, "session: store", "(from flag --store)")
    assert "hush" not in by_flag.output
    # An empty variable counts as missing, and a variable cannot contain a NUL.
    if text in NO_STORES:
        by_variable = invoke("token", environ={**COMPLETE, STORE: text})
        assert_failed(by_variable, 2, "session: store", f"(from environment {STORE})")
        assert "hush" not in by_variable.output


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("redis://:hush@host", "token"),
        ("redis://hush@host", "token"),
        ("rediss://user:hush@host:1/2", "watch"),
        ("redis://:hu/hush@host", "token"),
        ("redis://:hu?hush@host", "token"),
        ("redis://host?password=hush", "revoke"),
        ("redis://host?a=b&username=hush", "token"),
        ("unix://:hush@/socket", "doctor"),
    ],
)
def test_a_password_in_a_flag(url: str, command: str) -> None:
    """A password in the flag is an error that names the variable and does not repeat it."""
    for more in ([], ["--show-config"]):
        result = invoke(command, "--store", url, *more, environ=COMPLETE, stdin="some-token")
        assert result.exit_code == 2
        assert "other users of this machine" in result.output
        assert STORE in result.output
        assert "hush" not in result.output


def test_the_flag_before_the_variable() -> None:
    """The flag wins over the variable, and an empty variable counts as missing."""
    environ = {STORE: "by-variable", STORE_KEY: ""}
    by_flag = resolve_store("by-flag", None, environ)
    assert by_flag is not None
    assert (by_flag.place.where, by_flag.store.source) == ("by-flag", "flag --store")
    by_variable = resolve_store(None, None, environ)
    assert by_variable is not None
    assert (by_variable.place.where, by_variable.keys) == ("by-variable", None)
    assert resolve_store(None, None, {STORE: "", STORE_KEY: KEY}) is None


def test_keys_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    """Each line is a key, blank lines are ignored, and the file has priority over the variable."""
    path = tmp_path / "keys"
    path.write_bytes(f"{KEY}\r\n\n  {OTHER_KEY}\n".encode())
    environ = {STORE: "redis://host", STORE_KEY: f"{OTHER_KEY}\n{KEY}"}
    for file, keys in ((path, [KEY, OTHER_KEY]), (None, [OTHER_KEY, KEY])):
        settings = resolve_store(None, file, environ)
        assert settings is not None
        assert settings.keys is not None
        assert settings.keys.value == keys
        assert "sealed" in repr(settings.make())
        assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("content", "store", "words"),
    [
        (b"", "redis://host", "store_key must be one or more keys"),
        (b" \n", "redis://host", "store_key must be one or more keys"),
        (b"hush", "redis://host", "store_key must be 32 random bytes"),
        (b"\xff\xfe", "redis://host", "store_key must be 32 random bytes"),
        (KEY.encode() + b"\nhush", "redis://host", "store_key must be 32 random bytes"),
        (KEY.encode(), "tokens.db", "store_key must not be set for a SQLite store"),
        (KEY.encode(), None, "store: set TRIO_ANON_SESSION_STORE or use --store"),
    ],
)
def test_a_wrong_key_in_a_file(
    tmp_path: Path, content: bytes, store: str | None, words: str
) -> None:
    """For a key that is wrong or not used, the exit code is 2, and no output shows it."""
    (tmp_path / "keys").write_bytes(content)
    args = ["--store-key-file", tmp_path / "keys", *(["--store", store] if store else [])]
    result = invoke("token", *args, environ=COMPLETE)
    assert_failed(result, 2, words)
    assert "hush" not in result.output
    assert KEY not in result.output


def test_a_wrong_key_in_the_environment() -> None:
    """For a wrong key in the variable, the exit code is 2, and no output shows it."""
    result = invoke("token", environ={**COMPLETE, STORE: "redis://host", STORE_KEY: "hush"})
    assert_failed(result, 2, "store_key must be 32", f"(from environment {STORE_KEY})")
    assert "hush" not in result.output


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("tokens.db", "sqlite:tokens.db"),
        ("redis://host:1/2", "redis://host:1/2"),
        ("redis://user:hush@host:1/2", "redis://***@host:1/2"),
        ("rediss://host?client_name=hush", "rediss://host?***"),
        ("valkeys://:hush@host:1,[::1],other:2/3", "valkeys://***@host:1,[::1],other:2/3"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
    ],
)
def test_show_config(store: str, shown: str) -> None:
    """``--show-config`` shows where the store is, without what may be a secret."""
    environ = {**COMPLETE, STORE: store}
    result = invoke("token", "--show-config", environ=environ)
    assert (result.exit_code, result.stderr) == (0, "")
    *_, row, key_row = result.stdout.splitlines()
    assert row.split(maxsplit=2) == ["store", shown, f"environment {STORE}"]
    assert key_row.split() == ["store_key", "-", "default"]
    assert "hush" not in result.output


def test_show_config_of_keys(tmp_path: Path) -> None:
    """``--show-config`` shows the number of keys and their source, and not the keys."""
    (tmp_path / "keys").write_text(f"{KEY}\n{OTHER_KEY}\n")
    args = ["--store", "redis://host", "--store-key-file", tmp_path / "keys", "--show-config"]
    result = invoke("watch", *args, environ=COMPLETE)
    assert result.exit_code == 0
    row = result.stdout.splitlines()[-1]
    assert row.split() == ["store_key", "***", "***", "flag", "--store-key-file"]
    assert KEY not in result.stdout
    assert OTHER_KEY not in result.stdout


@given(
    password=st.text(st.characters(codec="utf-8", exclude_characters="\0")).map("Zq7{}Zq7".format),
    form=st.sampled_from(
        [
            *("redis://:{}@host/0", "redis://{}@host", "rediss://user:{}@host:1/2?db=3"),
            *("unix://:{}@/socket", "redis://host?password={}", "redis://:{}@", "redis://:{}"),
            *("redis:{}@host", "valkey://:{}@host", "redis://host/?x=:{}@", "redis://host:{}"),
            *("redis://host/{}", "redis://user:{}:{}@host", "unix://{}@host/socket"),
        ]
    ),
    encode=st.sampled_from([str, quote]),
    command=st.sampled_from(["token", "watch", "revoke", "doctor"]),
)
def test_show_config_never_shows_a_password(
    password: str, form: str, encode: Callable[[str], str], command: str
) -> None:
    """``--show-config`` shows no part of a password, even if the URL is malformed."""
    # If a form ends with the password, the text after an @ in it is a host, by the rules of URLs.
    assume(not (form.endswith("{}") and "@" in encode(password)))
    environ = {**COMPLETE, STORE: form.replace("{}", encode(password))}
    result = invoke(command, "--show-config", environ=environ)
    assert result.exit_code in (0, 2)
    assert re.search(rf"^store .*environment {STORE}$", result.stdout, re.MULTILINE)
    assert "Zq7" not in result.output
