"""Exploration of all sequences of events in a fleet of `Claimant`s: `python -m tools.claimant`."""
