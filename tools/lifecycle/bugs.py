"""The bugs that `python -m tools.lifecycle.planted` plants; `tools.exploring.bugs` reads them."""

from __future__ import annotations

from pathlib import Path

from tools.exploring.bugs import read_folder

BUGS = read_folder(Path(__file__).with_name("bugs"))

SURVIVORS: dict[str, str] = {
    "a success keeps the pause": (
        "Equivalent: a request starts only after the pause, so the pause has ended when its "
        "answer arrives."
    ),
    "a token that is granted again stays remembered": (
        "No promise is broken: after that, the session rejects only a copy of the token from "
        "before the drop, although the server accepts the token again."
    ),
}
"""The bugs that the exploration cannot find, each with the reason."""
