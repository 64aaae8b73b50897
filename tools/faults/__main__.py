"""``python -m tools.faults``: run every row, and write ``docs/reference/faults.md``."""

from __future__ import annotations

import logging

from .page import PAGE, make_page

if __name__ == "__main__":
    # Warnings about the faults would hide an error of the runs.
    logging.getLogger("trio_anon_session").setLevel(logging.CRITICAL)
    PAGE.write_text(make_page(), encoding="utf-8")
