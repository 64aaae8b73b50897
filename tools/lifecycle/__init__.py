"""Exploration of all sequences of events of a `Lifecycle`: `python -m tools.lifecycle`."""
