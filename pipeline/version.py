"""The version of filterbank; it stands in every row and footer."""

__version__ = "0.1.0"
