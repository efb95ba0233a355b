"""Prepare steps, enrolled by the import lines below. Importing this loads no torch."""

from pipeline.steps import resample as resample
from pipeline.steps import rescale as rescale
from pipeline.steps import resegment as resegment
from pipeline.steps import round as round
from pipeline.steps import suv as suv
from pipeline.steps import zscore as zscore
from pipeline.steps.base import STEPS, Prepared, Step

__all__ = ["STEPS", "Prepared", "Step"]
