"""`Config`: what it takes, what it refuses, and what it never shows."""

from __future__ import annotations

import copy
import errno
import ipaddress
import json
import math
import os
import pickle
import re
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.lazy import LAZY
from trio_anon_session import Config, ConfigError, TokenRequestError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = 'p@ss "w/örd" +%41 \\ end'

ZERO_OR_MORE = ("stale_buffer", "expired_buffer", "refresh_jitter", "shutdown_timeout")
MORE_THAN_ZERO = (
    "retry_interval",
    "max_retry_interval",
    "request_timeout",
    "min_refresh_interval",
    "default_lifetime",
)
OPTIONAL = ("idle_timeout",)
DURATIONS = ZERO_OR_MORE + MORE_THAN_ZERO + OPTIONAL
URLS = ("api_root_url", "token_url", "revoke_url")
# Neither int() nor repr() may meet it: it has more than 4300 digits.
ENORMOUS = 10**5000


def make(**changes: Any) -> Config:
    """Return a config whose secret is the odd one."""
    return Config(**({"client_id": "id", "client_secret": SECRET} | changes))


def attempt(**changes: Any) -> Config | ConfigError:
    """Return the config of these settings, or the error that they bring."""
    try:
        return make(**changes)
    except ConfigError as error:
        return error


def refused(**changes: Any) -> ConfigError:
    """Return the error that these settings bring, after looking for the secret in it."""
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    error = caught.value
    assert_hides_secret(error)
    return error


def assert_hides_secret(error: BaseException, secret: str = SECRET) -> None:
    """Fail if an error or what hangs on it shows a secret."""
    assert error.__cause__ is None
    seen: BaseException | None = error
    while seen is not None:
        for text in (str(seen), repr(seen), repr(seen.args), repr(vars(seen))):
            assert secret not in text
            assert repr(secret)[1:-1] not in text
        # A decoder's errors keep what they decoded.
        assert not hasattr(seen, "doc")
        assert not hasattr(seen, "object")
        seen = seen.__context__


WRONG_TEXTS: list[object] = ["", None, 1, True, b"bytes", ["list"], "\ud800", object()]
WRONG_DURATIONS: list[object] = [
    -1,
    -0.001,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    "1",
    b"1",
    [1],
    1j,
    Decimal(1),
    Fraction(1, 2),
    10**400,
    -(10**400),
    ENORMOUS,
    -ENORMOUS,
]
WRONG_URLS: list[object] = [
    "",
    1,
    True,
    b"https://api.box.com",
    ["https://api.box.com"],
    "api.box.com",
    "/oauth2",
    "//api.box.com",
    "https://",
    "https:///oauth2",
    "mailto:someone@example.com",
    "ftp://api.box.com",
    "ws://localhost",
    "http://api.box.com",
    "http://localhost.example.com",
    "http://notlocalhost",
    "http://128.0.0.1",
    "http://0.0.0.0",
    "http://127.1",
    "http://[::2]",
    "http://10.0.0.1",
    "https://user@api.box.com",
    "https://user:password@api.box.com",
    "https://:password@api.box.com",
    "http://user:password@localhost",
    "https://api.box.com/#fragment",
    "https://api.box.com/#",
    "https://api.box.com#",
    "https://api.box.com:port",
    "https://[::1",
    "https://api.box.com/\n",
    "https://api.box.com/\x00",
    "https://\ud800",
    "https://api.box.com/\ud800",
    "https://xn--/",
    "https://" + "a" * 70_000,
]

WRONG: list[tuple[str, object]] = [
    *(("client_id", value) for value in WRONG_TEXTS),
    *(("client_secret", value) for value in WRONG_TEXTS),
    *((field, value) for field in URLS for value in WRONG_URLS),
    ("api_root_url", None),
    ("api_root_url", "https://api.box.com?tenant=a"),
    # With it, the path of the token endpoint would become a query.
    ("api_root_url", "https://api.box.com?"),
    *(
        ("auth_method", value)
        for value in ("", None, "basic", "CLIENT_SECRET_POST", 1, True, ["client_secret_post"])
    ),
    *(
        ("scope", value)
        for value in (
            "",
            " ",
            "a  b",
            " a",
            "a ",
            "a\tb",
            "a\nb",
            'a"b',
            "a\\b",
            "é",
            1,
            ["a"],
            b"a",
        )
    ),
    *(
        ("box_subject_type", value)
        for value in ("", "Enterprise", "group", 1, True, ["user"], b"user")
    ),
    *(("box_subject_id", value) for value in ("", 1, True, b"1", ["1"], "\ud800")),
    *(
        ("extra_params", value)
        for value in (
            None,
            "audience=x",
            [("audience", "x")],
            1,
            {"audience": None},
            {"audience": 1},
            {"audience": True},
            {"audience": b"x"},
            {"audience": ["x"]},
            {"audience": ("x", "y")},
            {"audience": "\ud800"},
            {"resource": ["https://a.example", 1]},
            {"resource": None},
            {"resource": {"https://a.example"}},
            {"resource": ["\ud800"]},
            {"": "x"},
            {1: "x"},
            {None: "x"},
            {"\ud800": "x"},
        )
    ),
    *(
        ("extra_params", {name: "x"})
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
    *((field, value) for field in DURATIONS for value in WRONG_DURATIONS),
    *((field, value) for field in MORE_THAN_ZERO + OPTIONAL for value in (0, 0.0, -0.0)),
    *((field, None) for field in ZERO_OR_MORE + MORE_THAN_ZERO),
    *(("refresh", value) for value in ("", None, "lazy", "EAGER", 1, True, ["eager"])),
    *(
        ("max_retries", value)
        for value in (-1, 1.0, True, False, "5", None, math.inf, math.nan, -ENORMOUS)
    ),
    *(("retry_strategy", value) for value in (1, "none", True, [lambda a, e: None])),
    *(("revoke_on_exit", value) for value in (0, 1, None, "yes", "")),
]


def name_case(value: object) -> str:
    """Return a short name of a parameter, whatever it is, the same in every run."""
    if isinstance(value, int) and abs(value) > 10**9:
        return f"{'' if value > 0 else 'minus '}{value.bit_length()} bits"
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))[:60]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=name_case)
def test_wrong_value(field: str, value: object) -> None:
    """A wrong value is a ConfigError that names the field and shows no secret."""
    changes = {field: value}
    if field == "box_subject_type":
        changes["box_subject_id"] = "1"
    elif field == "box_subject_id":
        changes["box_subject_type"] = "user"

    error = refused(**changes)

    assert isinstance(error, ValueError)
    assert error.field == field
    assert str(error).startswith(f"{field}: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("field", "value", "wants"),
    [
        ("client_id", "", "non-empty str; got an empty str"),
        ("client_secret", 1, "non-empty str; got int"),
        ("client_secret", "\ud800", "UTF-8"),
        ("api_root_url", 1, "URL as str; got int"),
        ("token_url", "", "absolute URL"),
        ("token_url", "https://user@api.box.com", "without user name"),
        ("token_url", "https://api.box.com#", "without a fragment"),
        ("token_url", "http://api.box.com/x", "https URL, .*; got http://api.box.com$"),
        ("api_root_url", "https://api.box.com?", "without a query"),
        ("auth_method", "basic", "'client_secret_post' or 'client_secret_basic'; got another str"),
        ("auth_method", 1, "'client_secret_basic'; got int"),
        ("refresh", None, "'eager' or 'on_request'; got NoneType"),
        ("box_subject_type", "group", "'enterprise' or 'user' or None; got another str"),
        ("box_subject_id", "1", "go together"),
        ("scope", "a  b", "single spaces"),
        ("extra_params", ["x"], "mapping of form fields; got list"),
        ("extra_params", {"": "x"}, "non-empty str names"),
        ("extra_params", {"scope": "x"}, "'scope': it has its own setting"),
        ("extra_params", {"audience": 1}, "a str for 'audience'$"),
        ("extra_params", {"resource": 1}, "a str for 'resource', or a list"),
        ("stale_buffer", -1, "seconds, 0 or more; got -1.0"),
        ("retry_interval", 0, "seconds, more than 0; got 0.0"),
        ("retry_interval", "1", "seconds, more than 0; got str"),
        ("idle_timeout", 0, "seconds, more than 0, or None; got 0.0"),
        ("idle_timeout", 10**400, "or None; got int"),
        ("max_retries", -1, "int, 0 or more; got -1"),
        ("max_retries", -ENORMOUS, "int, 0 or more; got int"),
        ("retry_strategy", 1, "must be a plain callable .*, got int$"),
        ("revoke_on_exit", "yes", "True or False; got str"),
    ],
    ids=name_case,
)
def test_wrong_value_is_told_what_is_wanted(field: str, value: object, wants: str) -> None:
    """Beside the field's name the error says what it wants, and what kind of thing it got."""
    assert re.search(wants, refused(**{field: value}).wants)


@pytest.mark.parametrize(("strategy", "kind"), LAZY)
def test_a_strategy_that_a_plain_call_does_not_run(strategy: Any, kind: str) -> None:
    """A strategy that is async by mistake is refused, in words that say what it is."""
    error = refused(retry_strategy=strategy)
    assert str(error) == (
        f"retry_strategy: must be a plain callable (attempt, error) -> seconds or None, got {kind}"
    )
    with pytest.raises(ConfigError, match=r"retry_strategy: .*got an? "):
        make().replace(retry_strategy=strategy)


def test_every_field_has_wrong_values() -> None:
    """The table of wrong values leaves no setting out."""
    assert {field for field, _ in WRONG} == {a.alias for a in attrs.fields(Config)}


not_numbers = st.one_of(
    st.none(), st.booleans(), st.text(), st.binary(), st.lists(st.floats()), st.complex_numbers()
)


@given(
    st.sampled_from(ZERO_OR_MORE + MORE_THAN_ZERO),
    not_numbers
    | st.floats(max_value=0, exclude_max=True)
    | st.integers(max_value=-1)
    | st.sampled_from([math.nan, math.inf]),
)
def test_wrong_duration(field: str, value: object) -> None:
    """No duration takes anything but a finite number that is not negative."""
    assert refused(**{field: value}).field == field


@given(st.sampled_from(("client_id", "client_secret")), st.from_type(object))
def test_wrong_credentials(field: str, value: object) -> None:
    """Id and secret are non-empty text, and what was given instead is not shown."""
    if isinstance(value, str) and value and value.isprintable():
        value = value.encode()
    if isinstance(value, str) and value.encode(errors="ignore").decode() == value and value:
        return
    error = refused(**{field: value})
    assert error.field == field
    if isinstance(value, bytes) and len(value) > 8:
        assert repr(value) not in str(error)


@given(st.sampled_from(URLS), st.text())
@example("token_url", "https://xn--/")
@example("token_url", "https://h/\ud800")
@example("api_root_url", "https://[")
def test_any_text_as_url(field: str, value: str) -> None:
    """Any text is taken as a URL or refused by name, and never in another way."""
    outcome = attempt(**{field: value})
    if isinstance(outcome, ConfigError):
        assert outcome.field == field
        assert_hides_secret(outcome)
    else:
        assert getattr(outcome, field) == value


@given(st.sampled_from(URLS), st.text(st.characters(codec="utf-8"), max_size=30))
def test_plain_http_is_taken_for_loopback_alone(field: str, host: str) -> None:
    """Plain http is taken for no host that is not this machine, whatever it looks like."""
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
    """Loopback by an IPv4-mapped address is loopback, on every Python."""
    outcome = attempt(api_root_url=f"http://{host}:8080")
    assert isinstance(outcome, Config) is is_good


@given(st.sampled_from(DURATIONS), st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_good_duration(field: str, value: float) -> None:
    """A finite number of seconds above 0 is taken as it is."""
    assert getattr(make(**{field: value}), field) == value


@given(st.sampled_from(DURATIONS), st.integers(min_value=1, max_value=2**53))
def test_int_becomes_float(field: str, value: int) -> None:
    """A whole number of seconds becomes a float."""
    kept = getattr(make(**{field: value}), field)
    assert type(kept) is float
    assert kept == value


@pytest.mark.parametrize("field", ZERO_OR_MORE)
@pytest.mark.parametrize("zero", [0, 0.0])
def test_zero_is_good(field: str, zero: float) -> None:
    """Buffers, jitter and the shutdown limit may be 0."""
    kept = getattr(make(**{field: zero}), field)
    assert type(kept) is float
    assert kept == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_id", "ä b"),
        ("client_secret", " "),
        ("client_secret", "a\nb"),
        ("auth_method", "client_secret_post"),
        ("auth_method", "client_secret_basic"),
        ("scope", None),
        ("scope", "a"),
        ("scope", "root_readonly item_preview"),
        ("scope", "https://graph.example/.default"),
        ("refresh", "eager"),
        ("refresh", "on_request"),
        ("idle_timeout", None),
        ("max_retries", 0),
        ("max_retries", 10**6),
        ("retry_strategy", None),
        ("retry_strategy", lambda attempt, error: None),
        ("revoke_on_exit", True),
        ("revoke_on_exit", False),
        ("extra_params", {}),
        ("extra_params", {"audience": "https://api.example", "empty": ""}),
    ],
    ids=name_case,
)
def test_good_value(field: str, value: object) -> None:
    """A good value is kept as it is."""
    assert getattr(make(**{field: value}), field) == value


@pytest.mark.parametrize(
    "url",
    [
        "https://api.box.com",
        "https://api.box.com/",
        "https://api.box.com:8443/base",
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
    """Https to anywhere is good, plain http to this machine alone."""
    assert getattr(make(**{field: url}), field) == url


def test_defaults() -> None:
    """The defaults are those that are documented."""
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


@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize("root", ["https://api.example/base", "https://api.example/BOX"])
def test_derived_urls(root: str, end: str) -> None:
    """Both endpoints lie below the API root, with or without a slash at its end."""
    config = make(api_root_url=root + end)
    assert config.token_url == f"{root}/oauth2/token"
    assert config.revoke_url == f"{root}/oauth2/revoke"


def test_endpoint_urls_are_kept() -> None:
    """An endpoint of its own is taken as it is, its query too (RFC 6749 §3.2)."""
    config = make(
        token_url="https://id.example/token?tenant=a%20b&x=", revoke_url="https://id.example/end?y"
    )
    assert config.token_url == "https://id.example/token?tenant=a%20b&x="
    assert config.revoke_url == "https://id.example/end?y"


def test_one_endpoint_alone() -> None:
    """An endpoint of its own leaves the other where it is."""
    assert make(token_url="https://id.example/t").revoke_url == "https://api.box.com/oauth2/revoke"
    assert make(revoke_url="https://id.example/r").token_url == "https://api.box.com/oauth2/token"


def test_subject_settings_go_together() -> None:
    """Subject type and id are both there or neither, and the missing one is named."""
    assert refused(box_subject_type="user").field == "box_subject_id"
    assert refused(box_subject_id="1").field == "box_subject_type"
    config = make(box_subject_type="user", box_subject_id="1")
    assert (config.box_subject_type, config.box_subject_id) == ("user", "1")


@pytest.mark.parametrize("given_as", [list, tuple])
def test_resource_may_be_repeated(given_as: Any) -> None:
    """Of all extra fields, `resource` alone takes several values (RFC 8707 §2)."""
    values = ("https://a.example", "https://b.example")
    assert make(extra_params={"resource": given_as(values)}).extra_params == {"resource": values}
    assert make(extra_params={"resource": "https://a.example"}).extra_params == {
        "resource": "https://a.example"
    }


def test_extra_params_are_copied() -> None:
    """What happens to the given mapping afterwards does not reach the config."""
    resources = ["https://a.example"]
    params = {"resource": resources, "audience": "a"}
    config = make(extra_params=params)

    params["audience"] = "b"
    resources.append("https://b.example")

    assert config.extra_params == {"resource": ("https://a.example",), "audience": "a"}
    with pytest.raises(TypeError):
        config.extra_params["audience"] = "c"  # type: ignore[index]


def test_keywords_only() -> None:
    """Settings are given by name."""
    with pytest.raises(TypeError):
        Config("id", "secret")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        make(stale_bufer=1.0)


def test_frozen() -> None:
    """No setting can be changed or removed, and none added."""
    config = make()
    for attribute in attrs.fields(Config):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(config, attribute.name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(config, attribute.name)
    with pytest.raises(AttributeError):
        config.another = 1  # type: ignore[attr-defined]


def test_equality() -> None:
    """Two configs with the same settings are equal and hash alike."""
    assert make(extra_params={"a": "b"}) == make(extra_params={"a": "b"})
    assert hash(make(extra_params={"a": "b"})) == hash(make(extra_params={"a": "b"}))
    assert make() != make(client_id="other")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle(protocol: int) -> None:
    """A config refuses to be pickled, and says why."""
    with pytest.raises(TypeError, match="Config cannot be pickled: it would write a secret"):
        pickle.dumps(make(), protocol)


def test_copy_is_itself() -> None:
    """A copy of what cannot change is the thing itself."""
    config = make(extra_params={"resource": ["https://a.example"]})
    assert copy.copy(config) is config
    assert copy.deepcopy(config) is config
    assert copy.deepcopy([config])[0] is config


@given(st.text(min_size=5).filter(lambda text: text.encode(errors="ignore").decode() == text))
@example(SECRET)
@example("secret")
def test_secret_is_in_no_text(secret: str) -> None:
    """The secret is in no text that a config turns into."""
    config = make(client_secret=secret)
    plain = repr(make(client_secret="another"))
    assert str(config) == f"{config}" == plain
    assert repr(config) == plain
    assert config.client_secret == secret


def test_values_of_extra_params_are_not_shown() -> None:
    """Of extra fields the names are shown, not the values: one may be a password."""
    text = repr(make(extra_params={"password": "hunter2", "resource": ["hunter3"]}))
    assert "extra_params={'password': ..., 'resource': ...}," in text
    assert "hunter" not in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_url", f"https://id:{'s3cr3t' * 3}@api.box.com"),
        ("revoke_url", f"ftp://id:{'s3cr3t' * 3}@api.box.com"),
        ("api_root_url", f"http://{'s3cr3t' * 3}@api.box.com"),
        ("scope", f"{'s3cr3t' * 3}\n"),
        ("box_subject_id", ["s3cr3t"]),
        ("client_id", b"s3cr3t"),
        ("client_secret", b"s3cr3t"),
        ("client_secret", ["s3cr3t"]),
        ("extra_params", {"audience": b"s3cr3t"}),
        ("extra_params", "client_secret=s3cr3t"),
    ],
    ids=name_case,
)
def test_misplaced_secret_is_not_shown(field: str, value: object) -> None:
    """A secret given in the wrong place or form is not in the error."""
    changes = {field: value} | ({"box_subject_type": "user"} if "subject" in field else {})
    assert_hides_secret(refused(**changes), "s3cr3t")


class TestReplace:
    def test_changes(self) -> None:
        """A replaced config is a new, checked one; the old stays as it was."""
        config = make(scope="a", extra_params={"audience": "x"})

        changed = config.replace(stale_buffer=1, client_secret="other")

        assert changed == make(
            scope="a", extra_params={"audience": "x"}, stale_buffer=1.0, client_secret="other"
        )
        assert (config.stale_buffer, config.client_secret) == (600.0, SECRET)

    def test_nothing(self) -> None:
        """Without changes the new config equals the old."""
        config = make(token_url="https://id.example/t")
        assert config.replace() == config

    @pytest.mark.parametrize("name", ["stale_bufer", "_token_url", "", "clientID"])
    def test_unknown_name(self, name: str) -> None:
        """An unknown setting is a ConfigError that names it."""
        with pytest.raises(ConfigError, match="no setting") as caught:
            make().replace(**{name: 1})
        assert caught.value.field == name
        assert_hides_secret(caught.value)

    @pytest.mark.parametrize(
        ("field", "value"), [("stale_buffer", -1), ("client_secret", ""), ("token_url", "x")]
    )
    def test_wrong_value(self, field: str, value: object) -> None:
        """A replaced setting is checked like any other."""
        with pytest.raises(ConfigError) as caught:
            make().replace(**{field: value})
        assert caught.value.field == field
        assert_hides_secret(caught.value)

    def test_derived_urls_follow(self) -> None:
        """Endpoints that were derived move with the API root; one that was given stays."""
        changed = make().replace(api_root_url="https://other.example")
        assert changed.token_url == "https://other.example/oauth2/token"
        assert changed.revoke_url == "https://other.example/oauth2/revoke"

        changed = make(token_url="https://id.example/t").replace(api_root_url="https://o.example")
        assert changed.token_url == "https://id.example/t"
        assert changed.revoke_url == "https://o.example/oauth2/revoke"

    def test_endpoint_goes_back_to_default(self) -> None:
        """None as an endpoint derives it again."""
        changed = make(token_url="https://id.example/t").replace(token_url=None)
        assert changed.token_url == "https://api.box.com/oauth2/token"

    def test_subject_pair_is_checked(self) -> None:
        """A change that leaves half a subject is refused."""
        config = make(box_subject_type="user", box_subject_id="1")
        with pytest.raises(ConfigError, match="box_subject_id"):
            config.replace(box_subject_id=None)


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

    @pytest.mark.parametrize("empty", [False, True])
    @pytest.mark.parametrize(
        ("variable", "field"),
        [("BOX_CLIENT_ID", "client_id"), ("BOX_CLIENT_SECRET", "client_secret")],
    )
    def test_missing(self, variable: str, field: str, *, empty: bool) -> None:
        """A missing or empty variable is named."""
        environ = dict(ENVIRONMENT)
        del environ[variable]
        if empty:
            environ[variable] = ""
        with pytest.raises(ConfigError, match=variable) as caught:
            Config.from_env(environ)
        assert caught.value.field == field
        assert_hides_secret(caught.value)

    @pytest.mark.parametrize(
        ("variable", "field"),
        [("BOX_SUBJECT_TYPE", "box_subject_type"), ("BOX_SUBJECT_ID", "box_subject_id")],
    )
    def test_half_a_subject(self, variable: str, field: str) -> None:
        """Half a subject is refused, and the other half named."""
        environ = dict(ENVIRONMENT)
        del environ[variable]
        with pytest.raises(ConfigError) as caught:
            Config.from_env(environ)
        assert caught.value.field == field

    @pytest.mark.parametrize(
        ("variable", "field", "value"),
        [
            ("BOX_API_ROOT_URL", "api_root_url", "api.box.com"),
            ("BOX_TOKEN_URL", "token_url", "http://api.box.com"),
            ("BOX_REVOKE_URL", "revoke_url", "x"),
            ("BOX_AUTH_METHOD", "auth_method", "basic"),
            ("BOX_SCOPE", "scope", "a  b"),
            ("BOX_SUBJECT_TYPE", "box_subject_type", "group"),
        ],
    )
    def test_wrong(self, variable: str, field: str, value: str) -> None:
        """A wrong variable is refused like the setting that it stands for."""
        with pytest.raises(ConfigError) as caught:
            Config.from_env(ENVIRONMENT | {variable: value})
        assert caught.value.field == field
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

    @pytest.mark.parametrize("enterprise", ["123", 123], ids=ascii)
    def test_enterprise(self, path: Path, enterprise: object) -> None:
        """The enterprise of the file becomes the subject."""
        config = self.read(path, {"boxAppSettings": APP, "enterpriseID": enterprise})
        assert (config.box_subject_type, config.box_subject_id) == ("enterprise", "123")

    @pytest.mark.parametrize("enterprise", ["0", 0, "", None], ids=ascii)
    def test_no_enterprise(self, path: Path, enterprise: object) -> None:
        """An app outside of any enterprise has no subject."""
        config = self.read(path, {"boxAppSettings": APP, "enterpriseID": enterprise})
        assert (config.box_subject_type, config.box_subject_id) == (None, None)

    @pytest.mark.parametrize("enterprise", [["1"], {"id": "1"}, True, 1.5])
    def test_wrong_enterprise(self, path: Path, enterprise: object) -> None:
        """An enterprise id that is neither a string nor a whole number is refused by name."""
        with pytest.raises(ConfigError, match=r"wants a string in .*box config\.json") as caught:
            self.read(path, {"boxAppSettings": APP, "enterpriseID": enterprise})
        assert caught.value.field == "enterpriseID"
        assert_hides_secret(caught.value)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
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

    def test_directory(self, tmp_path: Path) -> None:
        """What is no file is named."""
        with pytest.raises(ConfigError, match="cannot be read"):
            Config.from_box_json(tmp_path)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            json.dumps({"boxAppSettings": APP}).encode()[:-1],
            b"\xff\xfe\xff",
            b"[" * 100_000,
            b'{"boxAppSettings": ' + b"9" * 5000 + b"}",
            f"clientSecret = {SECRET}".encode(),
        ],
        ids=name_case,
    )
    def test_not_json(self, path: Path, raw: bytes) -> None:
        """A file that holds no JSON is named, and none of it shown."""
        with pytest.raises(ConfigError, match=r"box config\.json is not JSON") as caught:
            self.read(path, raw)
        assert_hides_secret(caught.value)
        assert caught.value.__context__ is None

    @pytest.mark.parametrize(
        ("document", "named"),
        [
            (None, "boxAppSettings"),
            ([], "boxAppSettings"),
            ("text", "boxAppSettings"),
            ({}, "boxAppSettings"),
            (APP, "boxAppSettings"),
            ([{"boxAppSettings": APP}], "boxAppSettings"),
            ({"boxAppSettings": None}, "boxAppSettings"),
            ({"boxAppSettings": [APP]}, "boxAppSettings"),
            ({"boxAppSettings": "x"}, "boxAppSettings"),
            ({"boxAppSettings": {}}, "boxAppSettings.clientID"),
            ({"boxAppSettings": APP | {"clientID": ""}}, "boxAppSettings.clientID"),
            ({"boxAppSettings": APP | {"clientID": 1}}, "boxAppSettings.clientID"),
            ({"boxAppSettings": APP | {"clientID": None}}, "boxAppSettings.clientID"),
            ({"boxAppSettings": {"clientID": "id"}}, "boxAppSettings.clientSecret"),
            ({"boxAppSettings": APP | {"clientSecret": ""}}, "boxAppSettings.clientSecret"),
            ({"boxAppSettings": APP | {"clientSecret": 1}}, "boxAppSettings.clientSecret"),
            ({"boxAppSettings": APP | {"clientSecret": [SECRET]}}, "boxAppSettings.clientSecret"),
        ],
        ids=name_case,
    )
    def test_wrong_shape(self, path: Path, document: object, named: str) -> None:
        """The key that is missing or wrong is named, together with the file."""
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


def test_retry_strategy_is_kept() -> None:
    """The strategy is the very callable that was given."""

    def strategy(attempt: int, error: TokenRequestError) -> float | None:
        return None

    assert make(retry_strategy=strategy).retry_strategy is strategy
