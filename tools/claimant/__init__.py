"""Explores every sequence of events of a fleet's `Claimant`s: `python -m tools.claimant`."""
