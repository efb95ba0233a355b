"""The command line: the only place that prints, shows progress and knows exit codes."""

from pipeline.cli.entry import main
from pipeline.cli.exits import EXIT_CODES
from pipeline.cli.group import cli

__all__ = ["EXIT_CODES", "cli", "main"]
