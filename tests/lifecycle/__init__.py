"""Explores every sequence of events of a `Lifecycle`: `python -m tests.lifecycle`."""
