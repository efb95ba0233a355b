"""Standard output that nobody may read, or that has no room left."""

from __future__ import annotations

import os
from typing import Any, TextIO

from pipeline.errors import WriteError


class Stdout:
    """A stream on which a closed pipe is no error, and any other is a WriteError.

    From then on nothing is sent.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._refusal: WriteError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text. Raises WriteError each time: click tries streams out and looks away."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        if self._refusal is not None:
            raise self._refusal
        return len(text)

    def flush(self) -> None:
        """Send what was written. Raises WriteError."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)
            if self._refusal is not None:
                raise self._refusal from error

    def _give_up(self, error: OSError) -> None:
        """Let what is buffered go nowhere, or Python would try again as it ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            self._refusal = WriteError(f"cannot write to standard output: {error.strerror}")
