"""`Fault` and `FaultPlan`: as values, and what a raw HTTP client gets."""

from __future__ import annotations

import codecs
import json
import math
from typing import TYPE_CHECKING, Any, Literal

import attrs
import httpx
import pytest
import trio

from trio_anon_session.testing import Fault, FaultPlan, TokenServer

from . import GRANT, ask_for_token, post, revocation, show

if TYPE_CHECKING:
    from trio.testing import MockClock

Endpoint = Literal["token", "revoke", "resource"]
ENDPOINTS: tuple[Endpoint, ...] = ("token", "revoke", "resource")


def plan_for(endpoint: Endpoint, *faults: Fault | None, then: Fault | None = None) -> FaultPlan:
    """Return a plan for one endpoint only."""
    return FaultPlan(**{endpoint: faults, f"{endpoint}_then": then})  # type: ignore[arg-type]


async def ask(server: TokenServer, endpoint: Endpoint = "token") -> httpx.Response:
    """Send a valid request; a token to revoke or to use is unknown to the server."""
    if endpoint == "token":
        return await post(server, data=GRANT)
    if endpoint == "revoke":
        return await post(server, "/oauth2/revoke", data=revocation("unknown"))
    return await show(server, "unknown")


async def ask_with(fault: Fault) -> httpx.Response:
    """Return the answer to a token request with this fault."""
    return await ask(TokenServer(FaultPlan(token=[fault]), lifetime=60.0))


# Values


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_planned_faults_and_the_fault_of_the_rest(endpoint: Endpoint) -> None:
    """A plan has a fault for each of the first requests to an endpoint, and one for the rest."""
    first, third, others = Fault(status=500), Fault(status=502), Fault(status=503)
    plan = plan_for(endpoint, first, None, third, then=others)

    assert [plan.fault_of(endpoint, nth) for nth in range(3)] == [first, Fault(), third]
    assert [plan.fault_of(endpoint, nth) for nth in (3, 4, 1000)] == [others] * 3
    assert plan_for(endpoint, first).fault_of(endpoint, 1) == Fault()
    for other in set(ENDPOINTS) - {endpoint}:
        assert plan.fault_of(other, 0) == plan.fault_of(other, 7) == Fault()


def test_faults_are_values() -> None:
    """Faults or plans with the same content are equal and have the same hash."""

    def build(status: int) -> FaultPlan:
        fault = Fault(status=status, headers={"Retry-After": "3"}, fields={"expires_in": "NaN"})
        return FaultPlan(token=[fault, None], resource_then=Fault.hang())

    assert build(500) == build(500)
    assert hash(build(500)) == hash(build(500))
    assert build(500) != build(502)
    assert FaultPlan(token=[Fault(), None]) == FaultPlan(token=(Fault(), None))
    assert Fault(headers={"a": "b"}) == Fault(headers=[("a", "b")])


def test_faults_do_not_change() -> None:
    """Faults and plans are frozen; ``attrs.evolve`` creates changed copies."""
    fault, plan = Fault(status=500), FaultPlan()

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        fault.status = 200  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        plan.token = (fault,)  # type: ignore[misc]
    assert attrs.evolve(fault, status=502) == Fault(status=502)


def test_repr_of_a_plan_is_code() -> None:
    """The repr of a plan is Python code that creates an equal plan."""
    plan = FaultPlan(token=[Fault(delay=3.0, fields={"expires_in": None}, prefix=b"\xef"), None])

    assert eval(repr(plan), {"Fault": Fault, "FaultPlan": FaultPlan}) == plan


@pytest.mark.parametrize("name", ["delay", "stall"])
@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_wrong_delays_are_refused(name: str, seconds: float) -> None:
    """A delay is 0 seconds or more, and the error names the attribute."""
    with pytest.raises(ValueError, match=f"{name} must be a number of seconds"):
        Fault(**{name: seconds})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ({"token": Fault()}, "token must be a list of Fault or None, such as .*, not Fault"),
        ({"revoke": [None, 503]}, r"revoke must be a list .*; revoke\[1\] is int"),
        ({"resource_then": [Fault()]}, "resource_then must be a Fault or None, not list"),
    ],
)
def test_wrong_faults_are_refused(plan: dict[str, Any], problem: str) -> None:
    """A plan accepts only faults, and the error names the attribute."""
    with pytest.raises(TypeError, match=f"^{problem}$"):
        FaultPlan(**plan)


@pytest.mark.parametrize("status", [200, 399, 600])
def test_a_server_error_has_an_error_status(status: int) -> None:
    """`Fault.server_error` accepts only a status from 400 to 599."""
    with pytest.raises(ValueError, match=f"^status must be .* from 400 to 599, got {status}$"):
        Fault.server_error(status)


# Requests that a fault affects


async def test_each_endpoint_counts_its_own_requests(autojump_clock: MockClock) -> None:
    """A plan counts the requests to each endpoint separately."""
    bad = Fault(status=500)
    server = TokenServer(
        FaultPlan(token=[None, bad], revoke=[bad], resource=[None, None, bad], resource_then=None)
    )
    statuses: dict[Endpoint, list[int]] = {endpoint: [] for endpoint in ENDPOINTS}
    for _ in range(4):
        for endpoint in ENDPOINTS:
            statuses[endpoint].append((await ask(server, endpoint)).status_code)

    assert statuses == {
        "token": [200, 500, 200, 200],
        "revoke": [500, 200, 200, 200],
        "resource": [401, 401, 500, 401],
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_replaced_plan_starts_with_its_first_fault(
    endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    """A new plan starts with its first fault, even after earlier requests."""
    server = TokenServer(plan_for(endpoint, Fault(status=500), Fault(status=501)))
    first = await ask(server, endpoint)
    server.faults = plan_for(endpoint, Fault(status=502), Fault(status=503))
    others = [await ask(server, endpoint) for _ in range(2)]

    assert [answer.status_code for answer in (first, *others)] == [500, 502, 503]
    assert server.faults.fault_of(endpoint, 0) == Fault(status=502)


async def test_replaced_plan_keeps_faults_of_requests_in_flight(autojump_clock: MockClock) -> None:
    """A request in flight keeps the fault that it got on arrival."""
    server = TokenServer(FaultPlan(token_then=Fault(delay=10.0, status=500)))
    statuses: list[tuple[int, float]] = []

    async def ask_for_one() -> None:
        answer = await ask(server)
        statuses.append((answer.status_code, trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_for_one)
        await trio.sleep(5.0)
        server.faults = FaultPlan()
        await ask_for_one()

    assert statuses == [(200, 5.0), (500, 10.0)]


# Time


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_delay_and_stall_make_the_answer_late(
    endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    """The complete response arrives after the delay and the stall of its fault."""
    plan = plan_for(endpoint, Fault(delay=0.25), Fault(delay=2.0, stall=7.0, body=b"0123456789"))
    server = TokenServer(plan)

    await ask(server, endpoint)
    assert trio.current_time() == 0.25
    answer = await ask(server, endpoint)
    assert trio.current_time() == 9.25
    assert answer.content == b"0123456789"


async def test_token_ages_while_its_answer_is_delayed(autojump_clock: MockClock) -> None:
    """A token's lifetime starts when the request arrives, even if the response is delayed."""
    server = TokenServer(FaultPlan(token=[Fault(delay=40.0)]), lifetime=100.0)
    await trio.sleep(10.0)
    fields = (await ask(server)).json()
    token = fields["access_token"]
    assert trio.current_time() == 50.0

    assert fields["expires_in"] == 100
    assert server.tokens[token].issued_at == server.requests[0].at == 10.0
    for moment, status in ((109.0, 200), (110.0, 401)):
        await trio.sleep_until(moment)
        assert (await show(server, token)).status_code == status


@pytest.mark.parametrize("fault", [Fault.hang(), Fault(stall=math.inf)])
async def test_cancelled_request_is_no_longer_in_flight(
    fault: Fault, autojump_clock: MockClock
) -> None:
    """A cancelled request no longer counts as in flight, but its token has been granted."""
    server = TokenServer(FaultPlan(token=[fault, fault]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, server)
        nursery.start_soon(ask, server)
        await trio.sleep(50.0)
        assert server.in_flight == 2
        nursery.cancel_scope.cancel()
    assert (server.in_flight, server.grants, len(server.live_tokens())) == (0, 2, 2)

    await ask_for_token(server)

    assert trio.current_time() == 50.0
    assert (server.in_flight, server.most_in_flight) == (0, 2)


# The answer


async def test_fault_with_a_status_only_records_the_request(autojump_clock: MockClock) -> None:
    """If a fault has a status, the server only records the request, and processes nothing."""
    bad = Fault(status=503)
    server = TokenServer(
        FaultPlan(token=[None, bad, Fault(status=200)], revoke=[bad], resource=[bad])
    )
    token = await ask_for_token(server)

    answers = [
        await ask(server),
        await ask(server),
        await post(server, "/oauth2/revoke", data=revocation(token)),
        await show(server, token),
    ]

    assert [(answer.status_code, answer.content) for answer in answers] == [
        (503, b""),
        (200, b""),
        (503, b""),
        (503, b""),
    ]
    assert (server.grants, len(server.tokens), len(server.requests)) == (1, 1, 4)
    assert (server.revocations, len(server.presented), server.verdicts) == (0, 0, {})
    assert (await show(server, token)).status_code == 200


async def test_headers_and_prefix_of_a_fault(autojump_clock: MockClock) -> None:
    """A fault's headers replace those of the same name; its prefix precedes the body."""
    headers = {"Retry-After": "3", "content-type": "text/plain", "Date": "garbage"}
    answer = await ask_with(Fault(headers=headers, prefix=codecs.BOM_UTF8))

    assert answer.status_code == 200
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers.get_list("Content-Type") == ["text/plain"]
    assert answer.headers.get_list("Date") == ["garbage"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.content.startswith(codecs.BOM_UTF8 + b"{")
    assert len(answer.json()["access_token"]) == 32


@pytest.mark.parametrize(
    ("fault", "status", "content"),
    [
        (Fault(body=b"\x00\xff"), 200, b"\x00\xff"),
        (Fault(body=b""), 200, b""),
        (Fault(body=b"Oops", status=502), 502, b"Oops"),
        (Fault(body=b"x" * 2**21), 200, b"x" * 2**21),
        (Fault(body=b"defgh", prefix=b"abc"), 200, b"abcdefgh"),
        (Fault(body=b"defgh", prefix=b"abc", keep=5), 200, b"abcde"),
        (Fault(body=b"defgh", keep=0), 200, b""),
        (Fault(body=b"defgh", keep=10_000), 200, b"defgh"),
    ],
    ids=["raw", "empty", "status", "2 MiB", "prefix", "kept part", "nothing kept", "all kept"],
)
async def test_body_is_sent_raw(
    fault: Fault, status: int, content: bytes, autojump_clock: MockClock
) -> None:
    """A fault's prefix and body are sent raw, up to ``keep`` bytes; no token is granted."""
    server = TokenServer(FaultPlan(token=[fault]))

    answer = await ask(server)

    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers["Content-Length"] == str(len(content))
    assert server.grants == 0


@pytest.mark.parametrize("text", ['"3600"', "-1", "3600.5", "null", "1e400", "NaN", "[]"])
async def test_fields_are_replaced_by_json_text(text: str, autojump_clock: MockClock) -> None:
    """A field of the response has the fault's JSON text; the token keeps its lifetime."""
    server = TokenServer(FaultPlan(token=[Fault(fields={"expires_in": text})]), lifetime=60.0)

    answer = await ask(server)

    assert f'"expires_in": {text},' in answer.text
    assert repr(answer.json()["expires_in"]) == repr(json.loads(text))
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert server.tokens[answer.json()["access_token"]].lifetime == 60.0


async def test_fields_can_be_added_and_removed(autojump_clock: MockClock) -> None:
    """None removes a field, a new name adds one, and the other fields stay the same."""
    answer = await ask_with(
        Fault(
            fields={
                "expires_in": None,
                "never_there": None,
                "token_type": '"mac"',
                "scope": '"a b"',
            }
        )
    )

    fields = answer.json()
    assert len(fields.pop("access_token")) == 32
    assert fields == {"restricted_to": [], "token_type": "mac", "scope": "a b"}


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("revoke", Fault()),
        ("resource", Fault()),
        ("token", Fault(status=503)),
        ("token", Fault(body=b"[1]")),
        ("token", Fault(body=b"<html>")),
    ],
)
async def test_fields_change_only_token_responses(
    endpoint: Endpoint, fault: Fault, autojump_clock: MockClock
) -> None:
    """A fault's fields change only a token response that the server itself creates."""
    both = attrs.evolve(fault, fields={"expires_in": "NaN"})
    server = TokenServer(plan_for(endpoint, both, fault))

    answer, plain = await ask(server, endpoint), await ask(server, endpoint)

    assert (answer.status_code, answer.content) == (plain.status_code, plain.content)


@pytest.mark.parametrize(
    ("fault", "stated", "lives_for"),
    [
        (Fault(lifetime=5.0), 5, 5.0),
        (Fault(lifetime=5.0, fields={"expires_in": "3600"}), 3600, 5.0),
        (Fault(lifetime=0.0), 0, 0.0),
        (None, 60, 60.0),
    ],
)
async def test_lifetime_of_a_fault(
    fault: Fault | None, stated: int, lives_for: float, autojump_clock: MockClock
) -> None:
    """A fault's lifetime is that of its token, even if the response states another one."""
    server = TokenServer(FaultPlan(token=[fault], token_then=Fault(lifetime=7.0)), lifetime=60.0)
    fields = (await ask(server)).json()

    assert fields["expires_in"] == stated
    if lives_for:
        await trio.sleep(lives_for - 0.5)
        assert (await show(server, fields["access_token"])).status_code == 200
    await trio.sleep_until(lives_for)
    assert (await show(server, fields["access_token"])).status_code == 401


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("cut", ["before_headers", "after_headers"])
async def test_cut_connection_is_a_protocol_error(
    endpoint: Endpoint,
    cut: Literal["before_headers", "after_headers"],
    autojump_clock: MockClock,
) -> None:
    """In process, a cut raises httpx's own error after the delay, and a token is granted."""
    server = TokenServer(plan_for(endpoint, Fault(delay=3.0, cut=cut)))
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(server, endpoint)

    assert trio.current_time() == 3.0
    assert server.in_flight == 0
    assert len(server.live_tokens()) == server.grants == (endpoint == "token")
    assert (await ask(server, endpoint)).status_code == (401 if endpoint == "resource" else 200)


# Ready-made faults


@pytest.mark.parametrize(
    ("fault", "status", "headers", "said"),
    [
        (Fault.rate_limited(), 429, {}, '"code": "rate_limit_exceeded"'),
        (
            Fault.rate_limited("7", shape="A"),
            429,
            {"retry-after": "7"},
            '"error": "temporarily_unavailable"',
        ),
        (Fault.server_error(), 500, {"content-type": "text/html"}, "<html>"),
        (
            Fault.server_error(503, retry_after="30"),
            503,
            {"content-type": "text/html", "retry-after": "30"},
            "<html>",
        ),
        (
            Fault.refusal("invalid_scope", "No."),
            400,
            {"content-type": "application/json"},
            '{"error": "invalid_scope", "error_description": "No."}',
        ),
        (Fault.refusal("access_denied", status=403), 403, {}, '"error": "access_denied"'),
        (Fault.redirect("https://b.example/"), 302, {"location": "https://b.example/"}, ""),
        (Fault.redirect("/", status=307), 307, {"location": "/"}, ""),
    ],
)
async def test_ready_made_faults(
    fault: Fault, status: int, headers: dict[str, str], said: str, autojump_clock: MockClock
) -> None:
    """A ready-made fault sends its status, headers and body, and no other ``Retry-After``."""
    answer = await ask_with(fault)

    assert answer.status_code == status
    assert headers.items() <= dict(answer.headers).items()
    assert ("retry-after" in answer.headers) == ("retry-after" in headers)
    assert said in answer.text
