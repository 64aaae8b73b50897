"""Prints how often the machine reaches what: ``python -m tests.model``.

A failing run is shrunk here, which can take minutes.
"""

from __future__ import annotations

import logging

from tests.model.test_model import FLOORS, run_machine

logging.disable()
reached = run_machine(shrink=True)
for what in sorted(reached.keys() | FLOORS.keys()):
    print(f"{reached[what]:8}  {what}  (floor {FLOORS.get(what, 0)})")
