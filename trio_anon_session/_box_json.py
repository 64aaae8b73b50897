"""The settings in a settings file of Box's developer console."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ._errors import ConfigError


def settings_in(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings in a file: see `Config.from_box_json`.

    Raises:
        ConfigError: the file cannot be read, or a key is missing or wrong.
    """
    # Raised outside of the except block: the context of the ConfigError would otherwise be an
    # error of the json module, which contains the whole document.
    problem = None
    document: object = None
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        problem = f"cannot be read: {error.strerror or type(error).__name__}"
    except (ValueError, RecursionError):
        problem = "is not JSON"
    if problem is not None:
        raise ConfigError("path", f"{os.fspath(path)} {problem}")
    app = document.get("boxAppSettings") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(app, dict):
        raise ConfigError("boxAppSettings", f"must be an object in {os.fspath(path)}")
    for key in ("clientID", "clientSecret"):
        if not isinstance(app.get(key), str) or not app[key]:
            raise ConfigError(
                f"boxAppSettings.{key}", f"must be a non-empty string in {os.fspath(path)}"
            )
    enterprise = document.get("enterpriseID")
    if enterprise is not None and type(enterprise) not in (str, int):
        raise ConfigError("enterpriseID", f"must be a string in {os.fspath(path)}")
    settings = {"client_id": app["clientID"], "client_secret": app["clientSecret"]}
    # Apps that were created outside an enterprise have "0" here.
    if enterprise and str(enterprise) != "0":
        settings |= {"box_subject_type": "enterprise", "box_subject_id": str(enterprise)}
    return settings
