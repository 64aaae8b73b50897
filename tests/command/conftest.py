"""What the tests of the command share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ports import served_in_thread

from .running import Served

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def served() -> Iterator[Served]:
    """Serve while a test runs."""
    served = Served()
    with served_in_thread(served.server) as url:
        served.url = url
        yield served
