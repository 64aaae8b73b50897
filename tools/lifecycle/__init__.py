"""Explores every sequence of events of a `Lifecycle`: `python -m tools.lifecycle`."""
