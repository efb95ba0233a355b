"""What happened, for people and monitors: run.json and log.jsonl.

The only output that knows of time, host and run.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.commit import replace_file
from pipeline.survey import Survey, attempts_of
from pipeline.types import ShardReport
from pipeline.version import versions


@dataclass
class Summary:
    """What a run did, and what the folder holds after it."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    newly_failed: int = 0
    pixels: int = 0
    bytes: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)


def log(root: Path, event: str, **details: object) -> None:
    """Append one JSON line to log.jsonl."""
    line = json.dumps({"time": _stamp(time.time()), "event": event, **details})
    with (root / "log.jsonl").open("a") as file:
        file.write(line + "\n")


class Journal:
    """The record of one run, written from its start."""

    def __init__(self, survey: Survey) -> None:
        self.root, self.plan = survey.plan.root, survey.plan
        self.survey = survey
        self.started, self._clock = time.time(), time.monotonic()
        self.summary = Summary(skipped=survey.todo.done)
        self._before = {
            row.image
            for rows in survey.state.shards.values()
            for row in rows
            if row.status == "failed"
        }
        tried = attempts_of(self.root)
        self.attempts = {image: tried.get(image, 1) for image in self._before}
        self.write("running", None)
        self.log("start", sources=len(survey.sources), shards=len(survey.shards))

    def shard(self, report: ShardReport) -> None:
        """Count a committed shard, and log its failures with the tracebacks of the unexpected."""
        summary = self.summary
        summary.done += report.done
        summary.failed += len(report.failed)
        summary.bytes += report.bytes
        summary.pixels += report.pixels
        for image, kind, error in report.failed:
            summary.kinds[kind] += 1
            summary.newly_failed += image not in self._before
            self.attempts[image] = self.attempts.get(image, 0) + 1
            trace = dict(report.traces).get(image)
            extra = {"traceback": trace} if trace else {}
            self.log("failed", image=image, kind=kind, error=error, **extra)
        self.log("committed", shard=report.shard, done=report.done, failed=len(report.failed))

    def end(self, code: int, error: str | None = None, trace: str | None = None) -> None:
        """Close the record of this run."""
        self.summary.seconds = time.monotonic() - self._clock
        details = {"error": error} if error else {}
        if trace:
            details["traceback"] = trace
        self.log("end", exit_code=code, **details)
        self.write("finished" if error is None else "stopped", code, error)

    def log(self, event: str, **details: object) -> None:
        """Append one line to log.jsonl."""
        log(self.root, event, **details)

    def write(self, state: str, code: int | None, error: str | None = None) -> None:
        """Replace run.json."""
        listing, todo = self.survey.listing, self.survey.todo
        record = {
            "state": state,
            "exit_code": code,
            "error": error,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": _stamp(self.started),
            "ended": None if code is None else _stamp(time.time()),
            "digest": self.plan.digest,
            "device": self.plan.device,
            "versions": versions(),
            "config": self.plan.expanded,
            "counts": {
                "listed": len(listing.members),
                "waiting": len(listing.waiting),
                "vanished": len(todo.vanished),
                "skipped_files": dict(listing.skipped),
                "idle_table_rows": len(self.survey.idle),
                **vars(self.summary),
            },
            "attempts": self.attempts,
        }
        replace_file(self.root / "run.json", json.dumps(record, indent=1).encode())


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
