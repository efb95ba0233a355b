"""The version of filterbank, and of the software that its results may depend on."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress
from functools import lru_cache

__version__ = "0.1.0"


PACKAGES = (
    "torch", "numpy", "numba", "llvmlite", "pywavelets", "pyarrow", "pillow", "tifffile",
    "imagecodecs", "netpbmfile",
)  # fmt: skip
EXTRAS = ("nibabel", "nvidia-nvimgcodec-cu13", "pydicom", "rasterio", "triton")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """The software that results may depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    for name in EXTRAS:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"filterbank": __version__, "python": platform.python_version(), **found}
