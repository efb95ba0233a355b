"""Prepare steps, enrolled by the import lines below. Importing this loads no torch."""

from pipeline.steps import rescale as rescale
from pipeline.steps.base import STEPS, Step

__all__ = ["STEPS", "Step"]
