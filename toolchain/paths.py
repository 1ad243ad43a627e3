"""Where things lie: the checkout, and the cache that all checkouts of a user share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
TOOLCHAIN: Final = CHECKOUT / "toolchain"
VENV: Final = CHECKOUT / ".venv"
PULUMI_HOME: Final = CHECKOUT / ".pulumi-home"
CODERD_SDK: Final = CHECKOUT / "sdks" / "coderd"

CACHE_VARIABLE: Final = "CODER_PILOT_CACHE"


def cache_directory() -> Path:
    """The cache: $CODER_PILOT_CACHE, else `coder-pilot` in the XDG cache directory."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "coder-pilot"
