"""An embedded token server and what belongs to it, for tests of your own programs.

=============  ==========================================================
``_faults``    `Fault`, `FaultPlan`: what goes wrong, as plain data
``_server``    `TokenServer`: an ASGI app that behaves like Box
``_open``      `open_test_session`, `open_loopback`
=============  ==========================================================
"""

from ._faults import Fault, FaultPlan
from ._open import open_loopback, open_test_session
from ._server import Client, IssuedToken, Presented, SeenRequest, TokenServer

__all__ = [
    "Client",
    "Fault",
    "FaultPlan",
    "IssuedToken",
    "Presented",
    "SeenRequest",
    "TokenServer",
    "open_loopback",
    "open_test_session",
]
