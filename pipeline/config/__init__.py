"""The config language: schema, and YAML with line numbers."""

# The next four enrol the plug-ins, which the language looks up in their registries.
import pipeline.filters
import pipeline.readers
import pipeline.statistics
import pipeline.steps  # noqa: F401
from pipeline.config.expanded import difference, expanded, parameters
from pipeline.config.learning import Learn
from pipeline.config.load import load
from pipeline.config.names import response_id
from pipeline.config.reference import describe, schema
from pipeline.config.schema import Config, Input, Limits, NamedFilter, Output, Png, Run, matches

__all__ = [
    "Config",
    "Input",
    "Learn",
    "Limits",
    "NamedFilter",
    "Output",
    "Png",
    "Run",
    "describe",
    "difference",
    "expanded",
    "load",
    "matches",
    "parameters",
    "response_id",
    "schema",
]
