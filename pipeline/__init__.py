"""filterbank: a bank of convolution filters over a folder of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.version import __version__

__all__ = ["__version__", "open_output"]

if TYPE_CHECKING:
    from pipeline.output import open_output


def __getattr__(name: str) -> object:
    if name == "open_output":  # lazy: importing the package costs nothing
        from pipeline.output import open_output

        return open_output
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
