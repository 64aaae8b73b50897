"""The bugs that `python -m tools.lifecycle.planted` plants; `tools.exploring.bugs` reads them."""

from __future__ import annotations

from pathlib import Path

from tools.exploring.bugs import read_folder

BUGS = read_folder(Path(__file__).with_name("bugs"))

SURVIVORS: dict[str, str] = {
    "a success keeps the pause": (
        "Equivalent: a request starts after the pause only, so the pause has ended by the time "
        "that its answer arrives."
    ),
    "a token that is granted again stays remembered": (
        "No promise is broken: from then on, only a copy of the token from before the drop is "
        "refused, although the server accepts that token again."
    ),
}
"""The changes that no exploration can find, each with the reason."""
