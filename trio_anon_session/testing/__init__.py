"""An embedded token server, sessions and strategies for tests of your own programs.

==============  ===========================================================
``_clients``    `Client`, `TrustedIssuer`: the registrations of clients
``_faults``     `Fault`, `FaultPlan`: failures of the server, as plain data
``_records``    `IssuedToken`, `SeenRequest`, `Presented`: what a server records
``_server``     `TokenServer`: an ASGI app that behaves like Box
``_open``       `open_test_session`, `open_loopback`
``_clocks``     `virtual_time`, clocks, and a deterministic task order
``_timelines``  runs of a session as plain data: run, checked, drawn
``strategies``  Hypothesis strategies for timelines, and the timeline API
``plugin``      the pytest fixtures
==============  ===========================================================
"""

from typing import TYPE_CHECKING

from ._clients import Client, TrustedIssuer
from ._clocks import virtual_time
from ._faults import Fault, FaultPlan
from ._open import open_loopback, open_test_session
from ._records import IssuedToken, Presented, SeenRequest
from ._server import TokenServer

if TYPE_CHECKING:
    from types import ModuleType

    from . import strategies as strategies

__all__ = [
    "Client",
    "Fault",
    "FaultPlan",
    "IssuedToken",
    "Presented",
    "SeenRequest",
    "TokenServer",
    "TrustedIssuer",
    "open_loopback",
    "open_test_session",
    "virtual_time",
]


def __getattr__(name: str) -> "ModuleType":
    # Imported on first use: Hypothesis needs an extra, and its import is slow.
    if name == "strategies":
        from importlib import import_module

        return import_module(f"{__name__}.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
