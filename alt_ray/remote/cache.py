"""The folder of this machine where what was computed or fetched once is kept. Knows nothing of what that is."""

import os
from pathlib import Path

FOLDER_VARIABLE = "ALT_RAY_CACHE"


def cache_folder() -> Path:
    """Return ALT_RAY_CACHE, or alt_ray in the user's cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alt_ray"
