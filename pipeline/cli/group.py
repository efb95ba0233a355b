"""The command group that every command joins."""

from __future__ import annotations

import click

from pipeline.cli.exits import EPILOG
from pipeline.version import __version__


@click.group(epilog=EPILOG, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="filterbank")
def cli() -> None:
    """Run a bank of convolution filters over a folder of images.

    \b
    Example: filterbank run configs/photos.yaml --input my/photos --output out/photos
    """
