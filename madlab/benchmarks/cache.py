"""Where madlab keeps what it draws, downloads and prepares."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$MADLAB_DATA, else the user's cache folder of this operating system."""
    if folder := os.environ.get("MADLAB_DATA"):
        return Path(folder)
    import pooch

    return Path(pooch.os_cache("madlab"))
