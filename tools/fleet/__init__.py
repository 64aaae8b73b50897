"""A simulated fleet: processes with a session each, and one store between them.

===========  ==============================================================
``fleets``   `Fleet` and its parts, as plain data
``links``    the connection of a process to the store, which can fail
``stopping`` processes that are stopped, or killed, between any two steps
``log``      the entries of the log
``run``      `run_fleet`: runs a fleet in virtual time, and writes the log
``referee``  reads the log, and finds the first broken claim
``draws``    `fleets()`, which draws fleets
``days``     the runs for the tables
``page``     the tables of `docs/explanation/fleet.md`, made from these runs
===========  ==============================================================

``rows`` is another program: it breaks a fleet of real processes.
"""
