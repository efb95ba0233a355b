"""Shared fixtures: where the real data is, and a deterministic torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("filterbank", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("filterbank")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images; tests that need it are skipped, with the reason, without it."""
    folder = Path(os.environ.get("FILTERBANK_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("FILTERBANK_SHARED is not set and ../shared does not exist")
    return folder
