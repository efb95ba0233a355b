"""A reader that kills the process that reads with it: as a defect of a decoder does."""

from __future__ import annotations

import os
from pathlib import Path

PLUGIN = '''
import os
import re
from pipeline.readers.base import READERS
from pipeline.readers.png import Png


@READERS.register("deadly")
class Deadly:
    """A PNG behind a line; reading it kills the process with the signal that the line names."""

    suffixes = (".deadly",)
    signature = re.compile(rb"DEADLY")

    def probe(self, path):
        return Png().probe(os.path.dirname(path) + "/000.png")

    def open(self, path, page):
        with open(path) as file:
            os.kill(os.getpid(), int(file.read().split()[1]))
'''
"""Registers a reader in every Python process that finds it as `sitecustomize`."""


def install(folder: Path) -> dict[str, str]:
    """Write the reader below a folder; the environment of processes that shall have it."""
    plugin = folder / "plugin"
    plugin.mkdir(exist_ok=True)
    (plugin / "sitecustomize.py").write_text(PLUGIN)
    return {"PYTHONPATH": os.pathsep.join([str(plugin), str(Path(__file__).parents[1])])}


def write(path: Path, number: int) -> None:
    """Write a file that kills with a signal; beside it there has to be `000.png`."""
    path.write_text(f"DEADLY {int(number)}\n")
