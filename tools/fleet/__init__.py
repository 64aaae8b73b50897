"""A simulated fleet: processes with a session each, and one store between them.

===========  ==============================================================
``fleets``   `Fleet` and what it is made of: data, and nothing else
``links``    a process's way to the store, which can fail it
``stopping`` processes that are stopped, or killed, between any two steps
``log``      what was seen, entry by entry
``run``      `run_fleet`: plays a fleet in virtual time, and writes the log
``referee``  reads the log, and finds the first broken claim
``draws``    `fleets()`, which draws them
``days``     the runs that are counted
``page``     the tables of `docs/explanation/fleet.md`, made of that
===========  ==============================================================

``rows`` is another program: it breaks a fleet of real processes.
"""
