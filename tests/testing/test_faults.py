"""`Fault` and `FaultPlan`: as values, and as a raw client meets them."""

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

from . import GRANT, ask_for_token, open_raw_client, show

if TYPE_CHECKING:
    from trio.testing import MockClock

Endpoint = Literal["token", "revoke", "resource"]
ENDPOINTS: tuple[Endpoint, ...] = ("token", "revoke", "resource")
REVOCATION = {"client_id": "test-client", "client_secret": "test-secret"}


def plan_for(endpoint: Endpoint, *faults: Fault | None, then: Fault | None = None) -> FaultPlan:
    """Return a plan for one endpoint alone."""
    return FaultPlan(**{endpoint: faults, f"{endpoint}_then": then})  # type: ignore[arg-type]


async def ask(client: httpx.AsyncClient, endpoint: Endpoint) -> httpx.Response:
    """Send a request that is good in itself, but for its token."""
    if endpoint == "token":
        return await client.post("/oauth2/token", data=GRANT)
    if endpoint == "revoke":
        return await client.post("/oauth2/revoke", data=REVOCATION | {"token": "unknown"})
    return await show(client, "unknown")


# Values


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_planned_faults_come_first_and_then_the_rest(endpoint: Endpoint) -> None:
    """A plan names the fault of each request, then that of all others."""
    first, third, others = Fault(status=500), Fault(status=502), Fault(status=503)
    plan = plan_for(endpoint, first, None, third, then=others)

    assert plan.fault_of(endpoint, 0) == first
    assert plan.fault_of(endpoint, 1) == Fault()
    assert plan.fault_of(endpoint, 2) == third
    assert [plan.fault_of(endpoint, nth) for nth in (3, 4, 1000)] == [others] * 3


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_none_in_a_plan_is_a_good_answer(endpoint: Endpoint) -> None:
    """None means that nothing goes wrong, whatever comes after the planned requests."""
    plan = plan_for(endpoint, None, then=Fault(status=503))

    assert plan.fault_of(endpoint, 0) == Fault()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_plan_without_faults_has_none(endpoint: Endpoint) -> None:
    """Where nothing is planned nothing goes wrong."""
    assert FaultPlan().fault_of(endpoint, 0) == Fault()
    assert plan_for(endpoint, Fault(status=500)).fault_of(endpoint, 1) == Fault()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_endpoints_have_plans_of_their_own(endpoint: Endpoint) -> None:
    """What is planned for one endpoint leaves the others alone."""
    plan = plan_for(endpoint, Fault(status=500), then=Fault(status=503))

    for other in set(ENDPOINTS) - {endpoint}:
        assert plan.fault_of(other, 0) == plan.fault_of(other, 7) == Fault()


def test_faults_are_values() -> None:
    """Two faults, or two plans, of the same content are equal, and hash so."""

    def build(status: int) -> FaultPlan:
        fault = Fault(status=status, headers={"Retry-After": "3"}, fields={"expires_in": "NaN"})
        return FaultPlan(token=[fault, None], resource_then=Fault.hang())

    assert build(500) == build(500)
    assert hash(build(500)) == hash(build(500))
    assert build(500) != build(502)
    assert FaultPlan(token=[Fault(), None]) == FaultPlan(token=(Fault(), None))
    assert Fault(headers={"a": "b"}) == Fault(headers=[("a", "b")])


def test_faults_do_not_change() -> None:
    """Faults and plans are frozen; a changed one is a new one."""
    fault, plan = Fault(status=500), FaultPlan()

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        fault.status = 200  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        plan.token = (fault,)  # type: ignore[misc]
    assert attrs.evolve(fault, status=502) == Fault(status=502)


def test_repr_of_a_fault_makes_it_again() -> None:
    """The repr of a plan is the code that builds it, as plain data's is."""
    plan = FaultPlan(token=[Fault(delay=3.0, fields={"expires_in": None}, prefix=b"\xef"), None])

    assert eval(repr(plan), {"Fault": Fault, "FaultPlan": FaultPlan}) == plan


@pytest.mark.parametrize("name", ["delay", "stall"])
@pytest.mark.parametrize("seconds", [-1.0, -math.inf, math.nan])
def test_wrong_delays_are_refused(name: str, seconds: float) -> None:
    """A delay is 0 seconds or more, and the error names the attribute."""
    with pytest.raises(ValueError, match=f"{name}: wants seconds"):
        Fault(**{name: seconds})  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 10.0, math.inf])
def test_good_delays_are_taken(seconds: float) -> None:
    """Any other number of seconds is a delay, infinity too."""
    fault = Fault(delay=seconds, stall=seconds)

    assert (fault.delay, fault.stall) == (seconds, seconds)


@pytest.mark.parametrize(
    ("fault", "replaces"),
    [
        (Fault(), False),
        (Fault(delay=1.0, headers={"a": "b"}, fields={"c": None}, keep=1), False),
        (Fault(status=200), True),
        (Fault(body=b""), True),
    ],
)
def test_status_or_body_replaces_the_answer(fault: Fault, replaces: bool) -> None:
    """A fault with a status or a body, an empty one too, has the request not looked at."""
    assert fault.replaces_answer is replaces


# Where a fault strikes


async def test_each_endpoint_counts_its_own_requests(autojump_clock: MockClock) -> None:
    """The number of a request is that among those to its endpoint."""
    bad = Fault(status=500)
    server = TokenServer(
        FaultPlan(token=[None, bad], revoke=[bad], resource=[None, None, bad], resource_then=None)
    )
    statuses: dict[Endpoint, list[int]] = {endpoint: [] for endpoint in ENDPOINTS}
    async with open_raw_client(server) as client:
        for _ in range(4):
            for endpoint in ENDPOINTS:
                statuses[endpoint].append((await ask(client, endpoint)).status_code)

    assert statuses == {
        "token": [200, 500, 200, 200],
        "revoke": [500, 200, 200, 200],
        "resource": [401, 401, 500, 401],
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_replaced_plan_is_counted_anew(endpoint: Endpoint, autojump_clock: MockClock) -> None:
    """A new plan begins with its first fault, however many requests there were before."""
    server = TokenServer(plan_for(endpoint, Fault(status=500), Fault(status=501)))
    async with open_raw_client(server) as client:
        first = await ask(client, endpoint)
        server.faults = plan_for(endpoint, Fault(status=502), Fault(status=503))
        others = [await ask(client, endpoint) for _ in range(2)]

    assert [answer.status_code for answer in (first, *others)] == [500, 502, 503]
    assert server.faults.fault_of(endpoint, 0) == Fault(status=502)


async def test_plan_replaced_meanwhile_leaves_requests_alone(autojump_clock: MockClock) -> None:
    """A request under way keeps the fault that it met on arrival."""
    server = TokenServer(FaultPlan(token_then=Fault(delay=10.0, status=500)))
    statuses: list[tuple[int, float]] = []

    async def ask_for_one() -> None:
        answer = await ask(client, "token")
        statuses.append((answer.status_code, trio.current_time()))

    async with open_raw_client(server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(ask_for_one)
        await trio.sleep(5.0)
        server.faults = FaultPlan()
        await ask_for_one()

    assert statuses == [(200, 5.0), (500, 10.0)]


# Delay


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("delay", [0.0, 0.25, 5.0, 86400.0])
async def test_delay_makes_the_answer_late(
    endpoint: Endpoint, delay: float, autojump_clock: MockClock
) -> None:
    """An answer comes exactly as late as the fault says."""
    async with open_raw_client(TokenServer(plan_for(endpoint, Fault(delay=delay)))) as client:
        await ask(client, endpoint)

        assert trio.current_time() == delay


async def test_token_ages_while_its_answer_is_delayed(autojump_clock: MockClock) -> None:
    """A token's life begins when the request arrives, and what is stated counts from there."""
    server = TokenServer(FaultPlan(token=[Fault(delay=40.0)]), lifetime=100.0)
    statuses: list[int] = []
    async with open_raw_client(server) as client:
        await trio.sleep(10.0)
        fields = (await client.post("/oauth2/token", data=GRANT)).json()
        token = fields["access_token"]
        assert trio.current_time() == 50.0
        for moment in (109.0, 110.0):
            await trio.sleep_until(moment)
            statuses.append((await show(client, token)).status_code)

    assert fields["expires_in"] == 100
    assert server.tokens[token].issued_at == server.requests[0].at == 10.0
    assert statuses == [200, 401]


async def test_delays_of_the_resource_add_up(autojump_clock: MockClock) -> None:
    """A fault's delay comes on top of what the resource takes anyway."""
    server = TokenServer(FaultPlan(resource=[Fault(delay=3.0)]), resource_latency=2.0)
    async with open_raw_client(server) as client:
        await ask(client, "resource")
        assert trio.current_time() == 5.0
        await ask(client, "resource")
        assert trio.current_time() == 7.0


@pytest.mark.parametrize("fault", [Fault.hang(), Fault(stall=math.inf), Fault(delay=100.0)])
async def test_cancelled_request_is_no_longer_in_flight(
    fault: Fault, autojump_clock: MockClock
) -> None:
    """A client that gives up is gone from the requests in flight, and the next is served."""
    server = TokenServer(FaultPlan(token=[fault, fault]))
    async with open_raw_client(server) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.post, "/oauth2/token")
            nursery.start_soon(client.post, "/oauth2/token")
            await trio.sleep(50.0)
            assert server.in_flight == 2
            nursery.cancel_scope.cancel()
        assert server.in_flight == 0

        await ask_for_token(client)

    assert trio.current_time() == 50.0
    assert (server.in_flight, server.most_in_flight) == (0, 2)


async def test_hanging_grant_has_made_a_token(autojump_clock: MockClock) -> None:
    """The server issues a token even if its answer never arrives."""
    server = TokenServer(FaultPlan(token=[Fault.hang()]))
    async with open_raw_client(server) as client:
        with trio.move_on_after(1000.0):
            await ask_for_token(client)

        assert trio.current_time() == 1000.0
        assert (server.grants, len(server.live_tokens())) == (1, 1)


# The answer's parts


@pytest.mark.parametrize("status", [200, 400, 429, 500, 502, 503])
async def test_status_grants_nothing(status: int, autojump_clock: MockClock) -> None:
    """With a status of the fault's nothing is granted, and the request is booked."""
    server = TokenServer(FaultPlan(token=[Fault(status=status)]))
    async with open_raw_client(server) as client:
        answer = await ask(client, "token")

    assert (answer.status_code, answer.content) == (status, b"")
    assert (server.grants, len(server.tokens), len(server.requests)) == (0, 0, 1)


async def test_status_revokes_nothing(autojump_clock: MockClock) -> None:
    """With a status of the fault's nothing is revoked."""
    server = TokenServer(FaultPlan(revoke=[Fault(status=503)]))
    async with open_raw_client(server) as client:
        token = await ask_for_token(client)

        answer = await client.post("/oauth2/revoke", data=REVOCATION | {"token": token})

        assert answer.status_code == 503
        assert (await show(client, token)).status_code == 200
    assert server.revocations == 0


async def test_status_looks_nothing_up(autojump_clock: MockClock) -> None:
    """With a status of the fault's the token shown to the resource is not looked at."""
    server = TokenServer(FaultPlan(resource=[Fault(status=503)]))
    async with open_raw_client(server) as client:
        answer = await show(client, "unknown")

    assert answer.status_code == 503
    assert (len(server.presented), server.verdicts) == (0, {})


async def test_wrong_method_comes_before_the_fault(autojump_clock: MockClock) -> None:
    """A request that is no POST is told so, whatever was to go wrong."""
    server = TokenServer(FaultPlan(token_then=Fault(status=500)))
    async with open_raw_client(server) as client:
        answer = await client.get("/oauth2/token")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


async def test_headers_join_or_replace(autojump_clock: MockClock) -> None:
    """A fault's headers replace those of the same name, in any case, and join the others."""
    fault = Fault(headers={"Retry-After": "3", "content-type": "text/plain", "Date": "garbage"})
    async with open_raw_client(TokenServer(FaultPlan(token=[fault]))) as client:
        answer = await ask(client, "token")

    assert answer.status_code == 200
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers.get_list("Content-Type") == ["text/plain"]
    assert answer.headers.get_list("Date") == ["garbage"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(answer.json()["access_token"]) == 32


async def test_body_is_sent_raw(autojump_clock: MockClock) -> None:
    """A body comes as it is, with status 200 unless there is another, and grants nothing."""
    server = TokenServer(FaultPlan(token=[Fault(body=b"\x00\xff"), Fault(status=502, body=b"")]))
    async with open_raw_client(server) as client:
        first, second = await ask(client, "token"), await ask(client, "token")

    assert (first.status_code, first.content) == (200, b"\x00\xff")
    assert (second.status_code, second.content) == (502, b"")
    assert server.grants == 0


async def test_oversized_body(autojump_clock: MockClock) -> None:
    """A body may be larger than any client should read."""
    body = b"x" * 2**21
    async with open_raw_client(TokenServer(FaultPlan(token=[Fault(body=body)]))) as client:
        answer = await ask(client, "token")

    assert answer.content == body
    assert answer.headers["Content-Length"] == str(2**21)


async def test_corrupt_gzip(autojump_clock: MockClock) -> None:
    """A header can promise a coding that the body does not have."""
    fault = Fault(headers={"Content-Encoding": "gzip"})
    async with (
        open_raw_client(TokenServer(FaultPlan(token=[fault]))) as client,
        client.stream("POST", "/oauth2/token", data=GRANT) as answer,
    ):
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])

    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(raw)["access_token"]) == 32


@pytest.mark.parametrize(
    "text",
    ['"3600"', "0", "-1", "3600.5", "true", "null", "99999999999999999999", "1e400", "NaN", "[]"],
)
async def test_fields_are_replaced_by_json_text(text: str, autojump_clock: MockClock) -> None:
    """A field of the answer is sent as the very text that the fault gives."""
    server = TokenServer(FaultPlan(token=[Fault(fields={"expires_in": text})]), lifetime=60.0)
    async with open_raw_client(server) as client:
        answer = await ask(client, "token")

        token = answer.json()["access_token"]
        assert (await show(client, token)).status_code == 200
    assert f'"expires_in": {text},' in answer.text
    assert repr(answer.json()["expires_in"]) == repr(json.loads(text))
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert server.tokens[token].lifetime == 60.0


async def test_fields_can_be_added_and_taken_away(autojump_clock: MockClock) -> None:
    """None takes a field away, a new name adds one, and the others stay as they are."""
    fault = Fault(
        fields={"expires_in": None, "never_there": None, "token_type": '"mac"', "scope": '"a b"'}
    )
    async with open_raw_client(TokenServer(FaultPlan(token=[fault]))) as client:
        fields = (await ask(client, "token")).json()

    assert len(fields.pop("access_token")) == 32
    assert fields == {"restricted_to": [], "token_type": "mac", "scope": "a b"}


@pytest.mark.parametrize("endpoint", ["revoke", "resource"])
async def test_fields_are_those_of_a_grant_alone(
    endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    """Fields change nothing about an answer of another endpoint."""
    fault = Fault(fields={"expires_in": "NaN"})
    async with open_raw_client(TokenServer(plan_for(endpoint, fault))) as client:
        answer, good = await ask(client, endpoint), await ask(client, endpoint)

    assert (answer.status_code, answer.content) == (good.status_code, good.content)


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(body=b"[1]"), Fault(body=b"<html>")])
async def test_fields_change_no_answer_but_a_grants(
    fault: Fault, autojump_clock: MockClock
) -> None:
    """Where the fault replaces the whole answer there are no fields to change."""
    both = attrs.evolve(fault, fields={"expires_in": "NaN"})
    async with open_raw_client(TokenServer(FaultPlan(token=[both, fault]))) as client:
        answer, plain = await ask(client, "token"), await ask(client, "token")

    assert (answer.status_code, answer.content) == (plain.status_code, plain.content)


@pytest.mark.parametrize(("stated", "expected"), [({}, 5), ({"expires_in": "3600"}, 3600)])
async def test_lifetime_is_the_real_one(
    stated: dict[str, Any], expected: int, autojump_clock: MockClock
) -> None:
    """A fault's lifetime is that of its token alone, whatever the answer states."""
    server = TokenServer(FaultPlan(token=[Fault(lifetime=5.0, fields=stated)]), lifetime=60.0)
    statuses: list[int] = []
    async with open_raw_client(server) as client:
        fields = (await ask(client, "token")).json()
        other = (await ask(client, "token")).json()
        for moment in (4.5, 5.0):
            await trio.sleep_until(moment)
            statuses.append((await show(client, fields["access_token"])).status_code)

    assert (fields["expires_in"], other["expires_in"]) == (expected, 60)
    assert statuses == [200, 401]


async def test_lifetime_of_nothing(autojump_clock: MockClock) -> None:
    """A token with a life of 0 seconds says so, and is dead when it comes."""
    server = TokenServer(FaultPlan(token=[Fault(lifetime=0.0)]), lifetime=60.0)
    async with open_raw_client(server) as client:
        fields = (await ask(client, "token")).json()

        assert fields["expires_in"] == 0
        assert (await show(client, fields["access_token"])).status_code == 401
    assert server.live_tokens() == []


async def test_prefix_comes_before_the_body(autojump_clock: MockClock) -> None:
    """A prefix, such as a byte order mark, is sent before a body that is good otherwise."""
    fault = Fault(prefix=codecs.BOM_UTF8)
    async with open_raw_client(TokenServer(FaultPlan(token=[fault]))) as client:
        answer = await ask(client, "token")

    assert answer.content.startswith(codecs.BOM_UTF8 + b"{")
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert len(answer.json()["access_token"]) == 32


@pytest.mark.parametrize(("keep", "length"), [(0, 0), (20, 20), (10_000, 117)])
async def test_kept_part_of_the_body(keep: int, length: int, autojump_clock: MockClock) -> None:
    """Of the body no more is sent than is kept, as a whole answer."""
    server = TokenServer(FaultPlan(token=[Fault(keep=keep)]), lifetime=3600.0)
    async with open_raw_client(server) as client:
        answer = await ask(client, "token")
        whole = await ask(client, "token")

    assert len(whole.content) == 117
    assert (answer.status_code, len(answer.content)) == (200, length)
    assert answer.headers["Content-Length"] == str(length)
    assert server.grants == 2


async def test_kept_part_counts_the_prefix(autojump_clock: MockClock) -> None:
    """What is kept is counted from the very first byte that is sent."""
    fault = Fault(prefix=b"abc", body=b"defgh", keep=5)
    async with open_raw_client(TokenServer(FaultPlan(token=[fault]))) as client:
        answer = await ask(client, "token")

    assert answer.content == b"abcde"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_stalled_body_comes_whole(endpoint: Endpoint, autojump_clock: MockClock) -> None:
    """A body that stalls in the middle is whole in the end, and exactly so late."""
    fault = Fault(delay=2.0, stall=7.0, body=b"0123456789")
    async with open_raw_client(TokenServer(plan_for(endpoint, fault))) as client:
        answer = await ask(client, endpoint)

        assert trio.current_time() == 9.0
    assert answer.content == b"0123456789"


# Cuts


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("cut", ["before_headers", "after_headers"])
async def test_cut_connection_is_a_protocol_error(
    endpoint: Endpoint,
    cut: Literal["before_headers", "after_headers"],
    autojump_clock: MockClock,
) -> None:
    """In process a client meets httpx's own error for a cut, after the delay."""
    server = TokenServer(plan_for(endpoint, Fault(delay=3.0, cut=cut)))
    async with open_raw_client(server) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client, endpoint)

        assert trio.current_time() == 3.0
        assert (await ask(client, endpoint)).status_code == (401 if endpoint == "resource" else 200)
    assert server.in_flight == 0


@pytest.mark.parametrize("cut", ["before_headers", "after_headers"])
async def test_cut_grant_has_made_a_token(
    cut: Literal["before_headers", "after_headers"], autojump_clock: MockClock
) -> None:
    """What is cut off is the answer: the server has done its work."""
    server = TokenServer(FaultPlan(token=[Fault(cut=cut)]))
    async with open_raw_client(server) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client, "token")

    assert (server.grants, len(server.live_tokens()), len(server.requests)) == (1, 1, 1)


# Ready-made faults


@pytest.mark.parametrize("retry_after", [None, "7", "Wed, 21 Oct 2015 07:28:00 GMT", "garbage"])
@pytest.mark.parametrize(
    ("shape", "name", "code"),
    [("A", "error", "temporarily_unavailable"), ("B", "code", "rate_limit_exceeded")],
)
async def test_rate_limit(
    shape: Literal["A", "B"],
    name: str,
    code: str,
    retry_after: str | None,
    autojump_clock: MockClock,
) -> None:
    """A rate limit is a 429 in either shape, with the ``Retry-After`` given or none."""
    fault = Fault.rate_limited(retry_after, shape=shape)
    server = TokenServer(FaultPlan(token=[fault]))
    async with open_raw_client(server) as client:
        answer = await ask(client, "token")

    assert (answer.status_code, answer.json()[name]) == (429, code)
    assert answer.headers.get("Retry-After") == retry_after
    assert server.grants == 0


@pytest.mark.parametrize(("status", "retry_after"), [(500, None), (502, None), (503, "30")])
async def test_server_error(
    status: int, retry_after: str | None, autojump_clock: MockClock
) -> None:
    """A server error is a page of HTML."""
    fault = Fault.server_error(status, retry_after=retry_after)
    async with open_raw_client(TokenServer(FaultPlan(token=[fault]))) as client:
        answer = await ask(client, "token")

    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html")
    assert answer.text.startswith("<html>")
    assert answer.headers.get("Retry-After") == retry_after


async def test_refusal(autojump_clock: MockClock) -> None:
    """A refusal is an error of OAuth, with status 400 unless there is another."""
    plan = FaultPlan(
        token=[Fault.refusal("invalid_scope", "No."), Fault.refusal("access_denied", status=403)]
    )
    async with open_raw_client(TokenServer(plan)) as client:
        first, second = await ask(client, "token"), await ask(client, "token")

    assert (first.status_code, first.headers["Content-Type"]) == (400, "application/json")
    assert first.json() == {"error": "invalid_scope", "error_description": "No."}
    assert (second.status_code, second.json()["error"]) == (403, "access_denied")


@pytest.mark.parametrize("status", [302, 307])
async def test_redirect(status: int, autojump_clock: MockClock) -> None:
    """A redirect sends the client elsewhere, and grants nothing."""
    fault = Fault.redirect("https://elsewhere.example/", status=status)
    server = TokenServer(FaultPlan(token=[fault]))
    async with open_raw_client(server) as client:
        answer = await ask(client, "token")

    assert (answer.status_code, answer.headers["Location"]) == (
        status,
        "https://elsewhere.example/",
    )
    assert server.grants == 0


async def test_hang_never_answers(autojump_clock: MockClock) -> None:
    """A hang is an answer that no client lives to see."""
    async with open_raw_client(TokenServer(FaultPlan(token=[Fault.hang()]))) as client:
        with trio.move_on_after(100_000.0) as limit:
            await ask(client, "token")

    assert limit.cancelled_caught
