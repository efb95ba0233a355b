"""What the runs that are disturbed here start from, and what they have to end as."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command import Figures, draw, filterbank, write_config
from once import Once


@pytest.fixture(scope="session")
def images(once: Once) -> Path:
    """130 images, so three shards."""

    def fill(folder: Path) -> None:
        for i in range(130):
            draw(folder / f"{i:03}.png", seed=i)

    return once("images", fill)


@pytest.fixture(scope="session")
def undisturbed(images: Path, once: Once) -> Path:
    """What a run of `write_config` over them leaves."""

    def fill(folder: Path) -> None:
        assert filterbank("run", write_config(folder / "c.yaml", images, folder / "out")).code == 0

    return once("undisturbed", fill) / "out"


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Adds a line to the file that FILTERBANK_FIGURES names, which `make faults` prints."""
    name = os.environ.get("FILTERBANK_FIGURES", os.devnull)

    def tell(text: str) -> None:
        with Path(name).open("a") as file:
            file.write(f"{request.node.name}: {text}\n")

    return tell
