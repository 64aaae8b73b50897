"""The settings in a settings file of Box's developer console."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ._errors import ConfigError
from ._paths import checked_path, shown

if TYPE_CHECKING:
    import os


def settings_in(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings in a file: see `Config.from_box_json`.

    Raises:
        ConfigError: the file cannot be read, or a key is missing or wrong.
    """
    # Raised outside of the except block: the context of the ConfigError would otherwise be an
    # error of the json module, which contains the whole document.
    path = checked_path("path", path)
    problem = None
    document: object = None
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        problem = f"cannot be read: {error.strerror or type(error).__name__}"
    except (ValueError, RecursionError):
        problem = "is not JSON"
    if problem is not None:
        raise ConfigError("path", f"{shown(path)} {problem}")
    app = document.get("boxAppSettings") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(app, dict):
        raise ConfigError("boxAppSettings", f"must be an object in {shown(path)}")
    for key in ("clientID", "clientSecret"):
        if not isinstance(app.get(key), str) or not app[key]:
            raise ConfigError(
                f"boxAppSettings.{key}", f"must be a non-empty string in {shown(path)}"
            )
    enterprise = document.get("enterpriseID")
    if enterprise is not None and type(enterprise) not in (str, int):
        raise ConfigError("enterpriseID", f"must be a string in {shown(path)}")
    settings = {"client_id": app["clientID"], "client_secret": app["clientSecret"]}
    # Apps that were created outside an enterprise have "0" here.
    if enterprise and str(enterprise) != "0":
        settings |= {"box_subject_type": "enterprise", "box_subject_id": str(enterprise)}
    return settings
