"""A linter for plain English, with the word list of this project: `python -m tools.prose`."""
