"""Where settings come from: flags, then the environment, then Box's settings file."""

from __future__ import annotations

import base64
import json
import re
import string
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_anon_session import Config
from trio_anon_session._cli._settings import SETTINGS, VARIABLES, resolve
from trio_anon_session._cli._ways import WAY_SETTINGS

from .running import COMPLETE, SECRET, assert_failed, invoke, write_box_json

if TYPE_CHECKING:
    from pathlib import Path

_WORDS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
_URLS = _WORDS.map(lambda word: f"https://{word.lower()}.example")
_SECONDS = st.floats(0.5, 1e6)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "client_id": _WORDS,
    "client_secret": _WORDS,
    "api_root_url": _URLS,
    "token_url": _URLS,
    "revoke_url": _URLS,
    "issuer": _URLS,
    "auth_method": st.sampled_from(["client_secret_post", "client_secret_basic"]),
    "scope": _WORDS,
    "box_subject_type": st.sampled_from(["enterprise", "user"]),
    "box_subject_id": _WORDS,
    "extra_params": st.dictionaries(_WORDS.map(lambda word: f"x_{word}"), _WORDS),
    "refresh": st.sampled_from(["eager", "on_request"]),
    "max_retries": st.integers(0, 100),
    **dict.fromkeys(WAY_SETTINGS, _WORDS),
    **{setting.name: _SECONDS for setting in SETTINGS if setting.kind == "seconds"},
}
BY_FILE = ["client_id", "client_secret", "box_subject_type", "box_subject_id"]
COMMANDS = ["token", "watch", "revoke", "doctor"]


def some_of(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw values for some of the settings."""
    return st.fixed_dictionaries({}, optional={name: VALUES[name] for name in names})


def test_settings_have_flags() -> None:
    """Each setting has a flag, except those that only a program or a command can set."""
    fields = {attribute.alias for attribute in attrs.fields(Config) if attribute.init}
    flags = {setting.name for setting in SETTINGS}
    assert fields - flags == {"retry_strategy", "revoke_on_exit", "shutdown_timeout"}
    assert flags - fields == set(WAY_SETTINGS)
    for command in COMMANDS:
        told = invoke(command, "--help").stdout
        assert all(setting.flag in told for setting in SETTINGS)
        assert "--client-secret " not in told


@given(
    flags=some_of(list(VALUES)),
    environ=some_of(list(VARIABLES)),
    empty=st.sets(st.sampled_from(list(VARIABLES))),
    file=st.none() | st.tuples(_WORDS, _WORDS, st.sampled_from(["0", "42"])),
    defaults=some_of(["max_retries", "request_timeout"]),
)
def test_priority_of_the_sources(
    tmp_path_factory: pytest.TempPathFactory,
    flags: dict[str, Any],
    environ: dict[str, Any],
    empty: set[str],
    file: tuple[str, str, str] | None,
    defaults: dict[str, Any],
) -> None:
    """Each setting has the value of the first source that sets it, and names this source."""
    path = None
    by_file: dict[str, Any] = {}
    if file is not None:
        path = tmp_path_factory.getbasetemp() / "box.json"
        app = {"clientID": file[0], "clientSecret": file[1]}
        path.write_text(json.dumps({"boxAppSettings": app, "enterpriseID": file[2]}))
        subject = ["enterprise", file[2]] if file[2] != "0" else []
        by_file = dict(zip(BY_FILE, [*file[:2], *subject], strict=False))
    environ = {name: value for name, value in environ.items() if name not in empty}
    variables = {VARIABLES[name]: value for name, value in environ.items()}
    variables |= {VARIABLES[name]: "" for name in empty}
    found = resolve(flags, variables, path, defaults).given
    flag_of = {setting.name: setting.flag for setting in SETTINGS}
    for name in VALUES:
        if name in flags:
            wanted = (flags[name], f"flag {flag_of[name]}")
        elif name in environ:
            wanted = (environ[name], f"environment {VARIABLES[name]}")
        elif name in by_file:
            wanted = (by_file[name], f"file {path}")
        elif name in defaults:
            wanted = (defaults[name], "default")
        else:
            assert name not in found
            continue
        assert (found[name].value, found[name].source) == wanted


@given(values=some_of([name for name in VALUES if name not in ("client_secret", *WAY_SETTINGS)]))
def test_a_flag_reaches_the_config(values: dict[str, Any]) -> None:
    """``--show-config`` shows each value that a flag sets, and the flag."""
    values = {"client_id": "id", "box_subject_type": "user", "box_subject_id": "7", **values}
    flag_of = {setting.name: setting.flag for setting in SETTINGS}
    args = []
    for name, value in values.items():
        for text in (
            [f"{field}={item}" for field, item in value.items()]
            if name == "extra_params"
            else [repr(value) if isinstance(value, float) else value]
        ):
            args += [flag_of[name], text]
    result = invoke("watch", *args, "--show-config", environ={"BOX_CLIENT_SECRET": SECRET})
    assert (result.exit_code, result.stderr) == (0, "")
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in result.stdout.splitlines()}
    for name, value in values.items():
        if value == {}:
            continue
        *texts, word, flag = shown[name].split()
        assert (word, flag) == ("flag", flag_of[name])
        if name == "extra_params":
            # Only the names are shown, because a value may be a password of another scheme.
            assert texts == [f"{field}=***" for field in value]
        elif isinstance(value, float):
            assert float(texts[0]) == pytest.approx(value, rel=1e-5)
        else:
            assert texts == [str(value)]


def spellings(secret: str) -> set[str]:
    """Return the forms in which a secret could be shown."""
    return {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        base64.b64encode(f"id:{secret}".encode()).decode(),
    }


@given(
    # The end of the secret does not occur in other printed text, as "client_s" would.
    secret=st.text(
        st.characters(codec="utf-8", exclude_characters="*", exclude_categories=["Cc", "Cs"])
    ).map(lambda text: f"{text}Zq7~Zq7~"),
    beside=st.sampled_from(["client_id", "scope", "box_subject_id", "extra_params", "none"]),
    command=st.sampled_from(COMMANDS),
)
def test_show_config_never_shows_the_secret(secret: str, beside: str, command: str) -> None:
    """``--show-config`` masks the secret, also in other settings that contain it."""
    environ = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_SECRET": secret}
    args = {
        "client_id": ["--client-id", secret],
        "scope": ["--scope", f"x{secret}"],
        "box_subject_id": ["--box-subject-type", "user", "--box-subject-id", secret],
        "extra_params": ["--param", f"audience={secret}", "--param", f"{secret}=x"],
        "none": [],
    }[beside]
    result = invoke(command, *args, "--show-config", environ=environ)
    # An invalid value, for example an invalid scope, is refused, and not shown either.
    assert result.exit_code in (0, 2)
    assert re.search(r"^client_secret +\*\*\* ", result.stdout, re.MULTILINE) or result.stdout == ""
    assert not [spelling for spelling in spellings(secret) if spelling in result.output]


def test_show_config_without_a_revocation_endpoint() -> None:
    """Without a revocation endpoint, ``--show-config`` shows that it is missing, and why."""
    args = ["--token-url", "https://login.example/token", "--show-config"]
    result = invoke("revoke", *args, environ=COMPLETE)
    assert result.exit_code == 0
    assert re.search(
        r"^revoke_url +- +missing: token_url and api_root_url are on different",
        result.stdout,
        re.MULTILINE,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_show_config_shows_what_is_missing(command: str) -> None:
    """Without client ID and secret, all other settings are shown, and one line names both."""
    result = invoke(command, "--show-config", environ={"BOX_SCOPE": "a b"})
    assert result.exit_code == 2
    assert re.search(r"^client_id +- +missing$", result.stdout, re.MULTILINE)
    assert "a b" in result.stdout
    (line,) = result.stderr.splitlines()
    for word in ("BOX_CLIENT_ID", "BOX_CLIENT_SECRET", "--client-secret-file", "serve"):
        assert word in line


@pytest.mark.parametrize("name", ["BOX_CLIENT_ID", "BOX_CLIENT_SECRET"])
def test_show_config_of_bytes_that_are_not_utf_8(name: str) -> None:
    """For bytes that are not UTF-8, the settings are shown, and an error names the variable."""
    text = b"hush-\xff-hush".decode(errors="surrogateescape")
    environ = {**COMPLETE, "BOX_SCOPE": text, name: text}
    result = invoke("token", "--show-config", environ=environ)
    assert result.exit_code == 2
    assert "client_secret" in result.stdout
    (line,) = result.stderr.splitlines()
    assert line.endswith(f"must be text that UTF-8 can encode (from environment {name})")
    if name == "BOX_CLIENT_SECRET":
        assert "hush" not in result.output


def test_show_config_of_a_settings_file(tmp_path: Path) -> None:
    """Box's settings file is shown as the source, even if its name is not UTF-8."""
    path = write_box_json(tmp_path / b"b\xff.json".decode(errors="surrogateescape"))
    # RFC 8707 allows several resources.
    args = ["--box-json", path, "--param", "resource=a", "--param", "resource=b"]
    result = invoke("token", *args, "--show-config")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r"^client_secret +\*\*\* +file .*b\ufffd\.json$", result.stdout, re.MULTILINE)
    assert SECRET not in result.output


def test_show_config_of_defaults() -> None:
    """Default values are marked as such; those of endpoints name the URL they come from."""
    shown = invoke("token", "--show-config", environ=COMPLETE).stdout.splitlines()
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in shown}
    assert rows["max_retries"] == ["2", "default"]
    assert rows["stale_buffer"] == ["600", "default"]
    assert rows["scope"] == ["-", "default"]
    assert rows["token_url"] == [
        "https://api.box.com/oauth2/token",
        "default, from api_root_url",
    ]
    names = [setting.name for setting in SETTINGS]
    assert [line.split()[0] for line in shown] == [*names, "store", "store_key"]


@pytest.mark.parametrize(
    ("args", "environ", "words"),
    [
        (["--stale-buffer", "nan"], {}, ("stale_buffer must ", "(from flag --stale-buffer)")),
        (["--api-root-url", "http://api.example"], {}, ("api_root_url must ", "--api-root-url)")),
        (["--auth-method", "magic"], {}, ("auth_method must ", "(from flag --auth-method)")),
        (["--box-subject-type", "enterprise"], {}, ("box_subject_id must ",)),
        (
            [],
            {"BOX_REVOKE_URL": "ftp://x"},
            ("revoke_url must ", "(from environment BOX_REVOKE_URL)"),
        ),
        ([], {"BOX_SCOPE": "a  b"}, ("scope must ", "(from environment BOX_SCOPE)")),
        (["--param", "audience"], {}, ("extra_params must ", "NAME=VALUE")),
        (["--param", "=x"], {}, ("extra_params must ", "NAME=VALUE")),
        (["--param", "a=1", "--param", "a=2"], {}, ("extra_params must ", "(from flag --param)")),
        (["--param", "client_secret=x"], {}, ("extra_params must ", "own setting")),
    ],
)
def test_a_wrong_setting(args: list[str], environ: dict[str, str], words: tuple[str, ...]) -> None:
    """A wrong setting is exit code 2; the message has its name and where it comes from."""
    assert_failed(invoke("token", *args, environ=COMPLETE | environ), 2, *words)
