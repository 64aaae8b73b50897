"""Tests of `Config`: valid and wrong settings, and what it never shows."""

from __future__ import annotations

import inspect
import ipaddress
import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.lazy import an_async_function
from tests.unit.config_kit import MISPLACED, SECRET, assert_hides_secret
from trio_anon_session import Config, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

ZERO_OR_MORE = ("stale_buffer", "expired_buffer", "refresh_jitter", "shutdown_timeout")
MORE_THAN_ZERO = (
    "retry_interval",
    "max_retry_interval",
    "request_timeout",
    "min_refresh_interval",
    "default_lifetime",
)
DURATIONS = (*ZERO_OR_MORE, *MORE_THAN_ZERO, "idle_timeout", "max_wait")
URLS = ("api_root_url", "token_url", "revoke_url", "issuer")
# int() and repr() raise for this number, which has more than 4300 digits.
ENORMOUS = 10**5000


def make(**changes: Any) -> Config:
    """Return a config with a secret of unusual characters."""
    return Config(**({"client_id": "id", "client_secret": SECRET} | changes))


def attempt(**changes: Any) -> Config | ConfigError:
    """Return the config of these settings, or their ConfigError."""
    try:
        return make(**changes)
    except ConfigError as error:
        return error


def refused(**changes: Any) -> ConfigError:
    """Return the error of these settings, after checking that it shows no secret."""
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    assert_hides_secret(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


# Wrong values: each setting, each reason for a refusal, and the refused values.

WRONG_TEXTS: dict[str, list[object]] = {
    "non-empty str, got an empty str$": [""],
    "non-empty str, got (int|bool|bytes|list)$": [1, True, MISPLACED.encode(), [MISPLACED]],
    "UTF-8": ["\ud800"],
    "must not end with a line end": ["id\n", "id\r", "id\r\n", "\n"],
}
WRONG_URLS: dict[str, list[object]] = {
    "URL as a str, got (int|bytes)$": [1, b"https://api.box.com"],
    "an absolute URL": [
        "",
        "api.box.com",
        "/oauth2",
        "https://",
        "mailto:someone@example.com",
        "https://api.box.com:port",
        "https://[::1",
        "https://api.box.com/\n",
        "https://api.box.com/\x00",
        "https://\ud800",
        "https://api.box.com/\ud800",
        "https://xn--/",
        "https://" + "a" * 70_000,
    ],
    "without user name and password": [
        "https://user@api.box.com",
        f"https://id:{MISPLACED}@api.box.com",
        f"ftp://:{MISPLACED}@api.box.com",
        f"http://{MISPLACED}@localhost",
    ],
    "without a fragment": ["https://api.box.com/#x", "https://api.box.com#"],
    "https URL, .*, got (http|ftp|ws)://": [
        "ftp://api.box.com",
        "ws://localhost",
        "http://api.box.com",
        "http://localhost.example.com",
        "http://notlocalhost",
        "http://128.0.0.1",
        "http://127.1",
        "http://[::2]",
    ],
}
WRONG_DURATIONS: list[object] = [
    *(-0.001, math.nan, math.inf, -math.inf, True, False, "1", b"1", [1], 1j),
    *(Decimal(1), Fraction(1, 2), 10**400, -(10**400), ENORMOUS, -ENORMOUS),
]
WRONG: list[tuple[str, str, Sequence[object]]] = [
    *(
        (field, reason, values)
        for field in ("client_id", "box_subject_id")
        for reason, values in WRONG_TEXTS.items()
    ),
    ("client_id", "got NoneType$", [None]),
    ("client_secret", "non-empty str, got an empty str$", [""]),
    (
        "client_secret",
        "a SecretFile or a callable, got (int|bool|bytes|list)$",
        [1, True, b"x", [MISPLACED]],
    ),
    ("client_secret", "a SecretFile or a callable, unless auth_method is an object", [None]),
    *((field, reason, values) for field in URLS for reason, values in WRONG_URLS.items()),
    ("api_root_url", "got NoneType$", [None]),
    ("api_root_url", "must be https://api.box.com without a path", ["https://api.box.com/2.0"]),
    ("client_secret", "must not end with a line end", [f"{MISPLACED}\n"]),
    # With the last value, the path of the token endpoint would become a query.
    *(
        (field, "without a query", ["https://a.example?tenant=a", "https://a.example?"])
        for field in ("api_root_url", "issuer")
    ),
    (
        "auth_method",
        "'client_secret_post', 'client_secret_basic' or 'client_secret_jwt', got another str$",
        ["basic", "CLIENT_SECRET_POST"],
    ),
    ("auth_method", ", got an empty str$", [""]),
    ("auth_method", ", got (NoneType|int|list)$", [None, 1, ["client_secret_post"]]),
    (
        "scope",
        "separated by single spaces",
        ["", " ", "a  b", " a", "a ", "a\tb", f"{MISPLACED}\n", 'a"b', "a\\b", "é", 1, ["a"]],
    ),
    ("box_subject_type", "'enterprise', 'user' or None, got another str$", ["Enterprise"]),
    ("box_subject_type", "got (int|list)$", [1, ["user"]]),
    ("extra_params", "mapping of form fields, got NoneType$", [None]),
    ("extra_params", "mapping of form fields, got str$", [f"client_secret={MISPLACED}"]),
    ("extra_params", "mapping of form fields, got list$", [[("audience", "x")]]),
    ("extra_params", "non-empty str names", [{"": "x"}, {1: "x"}, {None: "x"}, {"\ud800": "x"}]),
    (
        "extra_params",
        "a str for 'audience'$",
        [{"audience": value} for value in (None, 1, MISPLACED.encode(), ["x"], ("x",), "\ud800")],
    ),
    (
        "extra_params",
        "a str for 'resource', or a list of str$",
        [{"resource": value} for value in (None, {"x"}, ["https://a.example", 1], ["\ud800"])],
    ),
    *(
        ("extra_params", f"must not set '{name}': it has its own setting", [{name: "x"}])
        for name in (
            "grant_type",
            "client_id",
            "client_secret",
            "client_assertion",
            "client_assertion_type",
            "scope",
            "box_subject_type",
            "box_subject_id",
        )
    ),
    *((field, "a finite number of seconds", WRONG_DURATIONS) for field in DURATIONS),
    ("stale_buffer", "got str$", ["1"]),
    ("stale_buffer", "got int$", [-(10**400), -ENORMOUS]),
    *((field, "seconds ≥ 0, got -1.0$", [-1]) for field in ZERO_OR_MORE),
    *((field, "seconds > 0, got -?0.0$", [0, 0.0, -0.0]) for field in MORE_THAN_ZERO),
    *((field, ", got NoneType$", [None]) for field in ZERO_OR_MORE + MORE_THAN_ZERO),
    ("idle_timeout", "seconds > 0, or None, got 0.0$", [0, 0.0]),
    ("max_wait", "seconds > 0, or None, got 0.0$", [0, 0.0]),
    ("refresh", "'eager' or 'on_request', got another str$", ["lazy", "EAGER"]),
    ("refresh", ", got (NoneType|bool|list)$", [None, True, ["eager"]]),
    ("max_retries", "int ≥ 0, got -1$", [-1]),
    ("max_retries", ", got int$", [-ENORMOUS]),
    ("max_retries", "int ≥ 0", [1.0, True, False, "5", None, math.inf, math.nan]),
    (
        "retry_strategy",
        r"must be a plain callable \(attempt, error\) -> seconds or None, got (int|str|bool|list)$",
        [1, "none", True, [lambda attempt, error: None]],
    ),
    ("retry_strategy", "a plain callable .*, got an async function$", [an_async_function]),
    ("revoke_on_exit", "True or False, got int$", [0, 1]),
    ("revoke_on_exit", "True or False, got NoneType$", [None]),
    ("revoke_on_exit", "True or False, got (str|an empty str)$", ["no", ""]),
]


@pytest.mark.parametrize(("field", "reason", "values"), WRONG)
def test_wrong_value(field: str, reason: str, values: Sequence[object]) -> None:
    """A wrong value is a ConfigError that names the field, and says what it must be."""
    other_half = {"box_subject_type": "user", "box_subject_id": "1"} if "subject" in field else {}
    for value in values:
        error = refused(**(other_half | {field: value}))
        assert error.field == field
        assert re.search(reason, error.wants), f"{type(value).__name__}: {error.wants}"


def test_every_field_has_wrong_values() -> None:
    """The table of wrong values has every setting."""
    assert {field for field, _, _ in WRONG} == {a.alias for a in attrs.fields(Config) if a.init}


@given(st.sampled_from(URLS), st.text())
@example("token_url", "https://xn--/")
@example("token_url", "https://h/\ud800")
@example("api_root_url", "https://[")
def test_any_text_as_url(field: str, value: str) -> None:
    """Any text is accepted as a URL, or refused with a ConfigError that names the field."""
    outcome = attempt(**{field: value})
    if isinstance(outcome, ConfigError):
        assert outcome.field == field
        assert_hides_secret(outcome)
    else:
        assert getattr(outcome, field) == value


@given(st.sampled_from(URLS), st.text(st.characters(codec="utf-8"), max_size=30))
def test_plain_http_is_accepted_only_for_loopback(field: str, host: str) -> None:
    """Plain http is accepted only for localhost and loopback addresses."""
    outcome = attempt(**{field: f"http://{host}/"})
    if isinstance(outcome, ConfigError):
        assert outcome.field == field
    else:
        kept = httpx.URL(getattr(outcome, field)).host
        assert kept == "localhost" or ipaddress.ip_address(kept).is_loopback


@pytest.mark.parametrize(
    ("host", "is_good"),
    [("[::ffff:127.0.0.1]", True), ("[::FFFF:7f00:2]", True), ("[::ffff:192.0.2.1]", False)],
)
def test_mapped_loopback(host: str, is_good: bool) -> None:
    """An IPv4-mapped loopback address counts as loopback."""
    outcome = attempt(api_root_url=f"http://{host}:8080")
    assert isinstance(outcome, Config) is is_good


# Valid values


@given(
    st.sampled_from(DURATIONS),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False) | st.integers(1, 2**53),
)
@example("stale_buffer", 0)
@example("expired_buffer", 0.0)
@example("refresh_jitter", 0)
@example("shutdown_timeout", 0.0)
@example("request_timeout", 5e-324)
@example("idle_timeout", 1)
def test_good_duration(field: str, value: float) -> None:
    """A duration is a number of seconds, 0 only for some fields, and becomes a float."""
    kept = getattr(make(**{field: value}), field)
    assert type(kept) is float
    assert kept == value


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("client_id", ["ä b"]),
        ("client_secret", [" ", "a\nb"]),
        ("auth_method", ["client_secret_post", "client_secret_basic"]),
        ("scope", [None, "a", "root_readonly item_preview", "https://graph.example/.default"]),
        ("refresh", ["eager", "on_request"]),
        ("idle_timeout", [None]),
        ("max_wait", [None]),
        ("max_retries", [0, 10**6]),
        ("retry_strategy", [None, lambda attempt, error: None]),
        ("revoke_on_exit", [True, False]),
        (
            "extra_params",
            [{}, {"audience": "https://a.example", "empty": ""}, {"resource": "https://a.example"}],
        ),
    ],
)
def test_good_value(field: str, values: list[object]) -> None:
    """A valid value is kept unchanged."""
    for value in values:
        assert getattr(make(**{field: value}), field) == value


@pytest.mark.parametrize(
    "url",
    [
        "https://api.box.com",
        "https://api.box.com/",
        "https://api.example:8443/base",
        "https://192.0.2.1",
        "https://[2001:db8::1]:8443",
        "https://bücher.example",
        "http://localhost",
        "http://LOCALHOST:8080",
        "http://127.0.0.1:8080",
        "http://127.5.6.7",
        "http://[::1]:8080/base",
        "HTTPS://API.BOX.COM",
    ],
)
@pytest.mark.parametrize("field", URLS)
def test_good_url(field: str, url: str) -> None:
    """Any https URL is valid, and an http URL of a loopback host."""
    assert getattr(make(**{field: url}), field) == url


def test_defaults() -> None:
    """The defaults are the documented ones."""
    config = make()

    assert config.api_root_url == "https://api.box.com"
    assert config.token_url == "https://api.box.com/oauth2/token"
    assert config.revoke_url == "https://api.box.com/oauth2/revoke"
    assert config.auth_method == "client_secret_post"
    assert (config.scope, config.box_subject_type, config.box_subject_id) == (None, None, None)
    assert config.extra_params == {}
    assert (config.stale_buffer, config.expired_buffer) == (600.0, 30.0)
    assert config.refresh == "eager"
    assert config.idle_timeout is None
    assert config.refresh_jitter == 0.0
    assert config.max_retries == 5
    assert (config.retry_interval, config.max_retry_interval) == (2.0, 60.0)
    assert config.retry_strategy is None
    assert config.request_timeout == 30.0
    assert config.min_refresh_interval == 1.0
    assert config.default_lifetime == 3600.0
    assert config.revoke_on_exit is False
    assert config.shutdown_timeout == 5.0


@pytest.mark.parametrize("root", ["https://api.example/BOX", "https://api.example/BOX/"])
def test_derived_urls(root: str) -> None:
    """Both endpoints are below the API root, with or without a slash at its end."""
    config = make(api_root_url=root)
    assert config.token_url == "https://api.example/BOX/oauth2/token"
    assert config.revoke_url == "https://api.example/BOX/oauth2/revoke"


def test_endpoint_urls_are_kept() -> None:
    """A given endpoint is kept unchanged, with its query (RFC 6749 §3.2)."""
    token_url, revoke_url = "https://id.example/token?tenant=a%20b&x=", "https://id.example/end?y"
    assert make(token_url=token_url).token_url == token_url
    assert make(token_url=token_url).revoke_url == "https://api.box.com/oauth2/revoke"
    assert make(revoke_url=revoke_url).revoke_url == revoke_url
    assert make(revoke_url=revoke_url).token_url == "https://api.box.com/oauth2/token"


def test_subject_settings_go_together() -> None:
    """Subject type and id are both set or both missing, and the error names the missing one."""
    assert refused(box_subject_type="user").field == "box_subject_id"
    error = refused(box_subject_id="1")
    assert error.field == "box_subject_type"
    assert error.wants == "must be set: box_subject_type and box_subject_id go together"
    config = make(box_subject_type="user", box_subject_id="1")
    assert (config.box_subject_type, config.box_subject_id) == ("user", "1")


@pytest.mark.parametrize("given_as", [list, tuple])
def test_extra_params_are_copied(given_as: Any) -> None:
    """Later changes of ``extra_params`` do not reach the config, which keeps a repeated field."""
    params = {"resource": given_as(["https://a.example", "https://b.example"]), "audience": "a"}
    config = make(extra_params=params)

    params["audience"] = "b"
    if given_as is list:
        params["resource"].append("https://c.example")

    resources = ("https://a.example", "https://b.example")
    assert config.extra_params == {"resource": resources, "audience": "a"}
    with pytest.raises(TypeError):
        config.extra_params["audience"] = "c"  # type: ignore[index]


def test_keywords_only() -> None:
    """Settings are accepted only as keyword arguments."""
    with pytest.raises(TypeError):
        Config("id", "secret")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        make(stale_bufer=1.0)


def test_frozen() -> None:
    """No setting can be changed, removed or added."""
    config = make()
    for attribute in attrs.fields(Config):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(config, attribute.name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(config, attribute.name)
    with pytest.raises(AttributeError):
        config.another = 1  # type: ignore[attr-defined]


def test_equality() -> None:
    """Two configs with the same settings are equal and have the same hash."""
    assert make(extra_params={"a": "b"}) == make(extra_params={"a": "b"})
    assert hash(make(extra_params={"a": "b"})) == hash(make(extra_params={"a": "b"}))
    assert make() != make(client_id="other")


@given(
    st.text(min_size=5).filter(
        lambda text: text.encode(errors="ignore").decode() == text and text[-1] not in "\r\n"
    )
)
@example(SECRET)
@example("secret")
def test_secret_is_in_no_text(secret: str) -> None:
    """The repr of a config, and its text, do not depend on the secret."""
    config = make(client_secret=secret)
    plain = repr(make(client_secret="another"))
    assert str(config) == f"{config}" == plain
    assert repr(config) == plain
    assert config.client_secret == secret


def test_the_repr_names_arguments() -> None:
    """Each name in the repr is an argument, so that its text can be copied into a program."""
    names = re.findall(r"(?:\(|, )(\w+)=", repr(make()))
    assert names
    assert set(names) < set(inspect.signature(Config).parameters)


def test_values_of_extra_params_are_not_shown() -> None:
    """The repr shows the names of ``extra_params``, and hides their values."""
    text = repr(make(extra_params={"password": "hunter2", "resource": ["hunter3"]}))
    assert "extra_params={'password': ..., 'resource': ...}," in text
    assert "hunter" not in text


class TestReplace:
    def test_changes(self) -> None:
        """``replace`` returns a new config, and the old one stays unchanged."""
        settings: dict[str, Any] = {"scope": "a", "token_url": "https://id.example/t"}
        config = make(**settings)

        changed = config.replace(stale_buffer=1, client_secret="other")

        assert changed == make(**settings, stale_buffer=1.0, client_secret="other")
        assert (config.stale_buffer, config.client_secret) == (600.0, SECRET)
        assert config.replace() == config

    @pytest.mark.parametrize(
        ("field", "reason"),
        [
            *(
                (name, "Config has no such setting")
                for name in ("stale_bufer", "_token_url", "authentication", "")
            ),
            ("stale_buffer", "must be a finite number"),
        ],
    )
    def test_wrong_change(self, field: str, reason: str) -> None:
        """An unknown setting, or a wrong value, is a ConfigError that names it."""
        with pytest.raises(ConfigError, match=reason) as caught:
            make().replace(**{field: "wrong"})
        assert caught.value.field == field
        assert_hides_secret(caught.value)

    def test_derived_urls_follow(self) -> None:
        """``replace`` derives an endpoint from the API root again, unless it was given."""
        config = make(token_url="https://id.example/t")

        changed = config.replace(api_root_url="https://other.example")

        assert changed.token_url == "https://id.example/t"
        assert changed.revoke_url == "https://other.example/oauth2/revoke"
        changed = changed.replace(token_url=None)
        assert changed.token_url == "https://other.example/oauth2/token"
