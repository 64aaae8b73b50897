"""A Flask app that looks up files at Box.

export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
gunicorn flask_app:app
"""

from __future__ import annotations

from typing import Any

from box_api import api
from flask import Flask

app = Flask(__name__)


@app.get("/files/<file_id>")
def look_up(file_id: str) -> Any:
    """Return what the API knows about a file."""
    return api.get(f"/2.0/files/{file_id}").raise_for_status().json()
