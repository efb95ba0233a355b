"""What a config wants of responses besides their statistics."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.config.schema import matches


def keeps(config: Config) -> bool:
    """Whether some pixels of responses are kept, in tables or files."""
    output = config.output
    return output.maps != "none" or output.geotiff is not None or output.nifti is not None


def draws(config: Config, response: str) -> bool:
    """Whether a response gets a PNG of its own or a place on the sheet."""
    png = config.output.png
    return png is not None and matches(response, png.filters)


def only_measured(config: Config, response: str) -> bool:
    """Whether nobody wants the pixels of a response, nor those inside of masks by themselves."""
    masked = config.input.mask or config.input.qa or config.regions.zones
    return not (masked or keeps(config) or draws(config, response))
