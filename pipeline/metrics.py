"""What a run did, as gauges of a Prometheus textfile: for monitors of runs that nobody watches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from pipeline.commit import replace_file
from pipeline.errors import FailureKind
from pipeline.journal import Summary

_PREFIX = "filterbank_run_"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def write_metrics(path: Path, labels: Mapping[str, str], code: int, summary: Summary) -> None:
    """Replace a textfile of the node exporter, which takes files called `*.prom`. Raises OSError.

    labels: on every line, to tell the jobs of one machine apart; code: the exit code.
    """
    states = {
        "done": summary.done,
        "failed": summary.failed,
        "unchanged": summary.skipped,
        "waiting": summary.waiting,
        "vanished": summary.vanished,
    }
    kinds = {str(kind): summary.kinds[kind] for kind in get_args(FailureKind)}
    before = summary.failed_before
    lines = [
        *_gauge("exit_code", "Exit code of the last run.", labels, code),
        *_gauge("end_timestamp_seconds", "When it ended.", labels, round(time.time())),
        *_gauge("duration_seconds", "How long it took.", labels, round(summary.seconds, 3)),
        *_gauges("images", "Images by what became of them.", labels, "state", states),
        *_gauge("failed_before_images", "Unchanged ones that have failed.", labels, before),
        *_gauges("failed_images", "Images that failed in it, by kind.", labels, "kind", kinds),
        *_gauge("output_bytes", "Bytes of the files it wrote.", labels, summary.bytes),
    ]
    text = "".join(f"{line}\n" for line in lines)
    replace_file(path, text.encode("utf-8", "replace"))


def _gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> Iterator[str]:
    yield from _head(name, text)
    yield _sample(name, labels, value)


def _gauges(
    name: str, text: str, labels: Mapping[str, str], label: str, values: Mapping[str, float]
) -> Iterator[str]:
    yield from _head(name, text)
    for key, value in values.items():
        yield _sample(name, {**labels, label: key}, value)


def _head(name: str, text: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} gauge"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    named = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
    return f"{_PREFIX}{name}{{{named}}} {value}"
