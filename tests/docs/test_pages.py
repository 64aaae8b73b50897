"""The public names and the tests that pages mention exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trio_anon_session as tas
import trio_anon_session.stores

from .test_claims import TESTS

DOCS = Path(__file__).parents[2] / "docs"
NODE = DOCS / "migration" / "node-sdk.md"
PAGES = sorted(DOCS.rglob("*.md"))

# Users of the Node SDK know these names and search for them.
OF_NODE = re.findall(
    r"\w+",
    """
    clientID clientSecret apiRootURL uploadAPIRootURL authorizeRootURL apiVersion expiredBufferMS
    staleBufferMS numMaxRetries retryIntervalMS retryStrategy uploadRequestTimeoutMS proxy request
    analyticsClient enterpriseID iterators appAuth getPreconfiguredInstance extend
    getAnonymousClient getAccessToken revokeTokens exchangeToken getTokensClientCredentialsGrant
    isAccessTokenValid TokenRequestOptions ip TokenStore accessToken accessTokenTTLMS acquiredAtMS
    refreshToken statusCode response authExpired maxRetriesExceeded error numRetryAttempts
    totalElapsedTimeMS
    """,
)


def table_rows() -> list[list[str]]:
    """Return the cells of all rows of the tables on the Node SDK's page."""
    lines = [line for line in NODE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_our_names_next_to_those_of_the_node_sdk_exist() -> None:
    """Each of our names in the tables is public, also with the part after its dot."""
    names = {
        name
        for row in table_rows()
        for cell in row[1:]
        for name in re.findall(r"`([A-Z]\w+(?:\.\w+)?)`", cell)
        if name not in ("Error", "None") and not name.isupper()
    }
    assert len(names) > 20
    for name in names:
        first, _, rest = name.partition(".")
        [home] = [module for module in (tas, tas.stores) if first in module.__all__]
        assert not rest.startswith("_")
        assert not rest or hasattr(getattr(home, first), rest), name


def test_the_names_of_the_node_sdk_are_on_the_page() -> None:
    """Each name that the SDK's users look for has a row."""
    firsts = "\n".join(row[0] for row in table_rows())
    assert [name for name in OF_NODE if not re.search(rf"\b{name}\b", firsts)] == []


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("expiredBufferMS", "expired_buffer"),
        ("staleBufferMS", "stale_buffer"),
        ("numMaxRetries", "max_retries"),
        ("retryIntervalMS", "retry_interval"),
    ],
)
def test_defaults_beside_the_node_sdk(row: str, field: str) -> None:
    """The defaults in the table are those of `Config`."""
    [ours] = [cells[1] for cells in table_rows() if cells[0].startswith(f"`{row}`: ")]
    told = re.fullmatch(rf"`Config\.{field}`: (\d+)(?: s)?", ours)
    assert told is not None
    assert float(told[1]) == getattr(tas.Config(client_id="id", client_secret="s"), field)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(DOCS)) for page in PAGES])
def test_tests_that_pages_name(page: Path) -> None:
    """Each test that a page gives as proof exists, and its name is unique."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(test_\w+)`", text))
    assert {name: TESTS[name] for name in named} == dict.fromkeys(named, 1)


def test_the_page_has_the_tested_user_of_the_server() -> None:
    """The page and the docstring of `RedisStore` create the same user of the server."""
    page = (DOCS / "how-to" / "fleet.md").read_text()
    docstring = tas.stores.RedisStore.__doc__ or ""
    made = [re.findall(r"^ +(ACL SETUSER .*)$", text, re.MULTILINE) for text in (page, docstring)]
    assert made[0] == made[1] != []
