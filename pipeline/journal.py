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
from typing import Any

from pipeline.changes import attempts_of
from pipeline.commit import replace_file
from pipeline.lease import birth
from pipeline.logfile import Log, stamp
from pipeline.storage import Place
from pipeline.survey import Survey
from pipeline.types import ShardReport
from pipeline.version import versions
from pipeline.watch import Effort

RECORD = "run.json"


@dataclass
class Summary:
    """What a run found, and what it did.

    skipped: images that are as they were; failed_before: those of them that have failed; seconds:
    since it began, planning included; newly_failed: images of whose failure no exit code has told.
    """

    listed: int = 0
    waiting: int = 0
    vanished: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    failed_before: int = 0
    newly_failed: int = 0
    pixels: int = 0
    bytes: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)


@dataclass
class Unsaid:
    """What no run has ended with yet, because it was stopped, or had worse to say.

    failed: images whose failure is new; lost: what was lost with damaged files, in words.
    """

    failed: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)


class Journal:
    """The record of one run, written from its start, under the lock. Raises OSError."""

    def __init__(self, root: Place, summary: Summary | None = None) -> None:
        self.root = root
        self.started, self._clock = time.time(), time.monotonic()
        self.summary = Summary() if summary is None else summary
        self.effort = Effort()
        self.attempts = attempts_of(root)
        self.unsaid = unsaid_of(root)
        self._before: set[str] = set()
        self._tried: set[str] = set()
        self._found: dict[str, Any] = {"digest": None, "device": None, "config": None}
        self._left_out: dict[str, Any] = {}
        self.log = Log(root).add
        self.write("running")

    def begin(self, survey: Survey) -> None:
        """Note what there is to do."""
        listing, plan, todo, summary = survey.listing, survey.plan, survey.todo, self.summary
        summary.listed, summary.waiting = len(listing.members), len(listing.waiting)
        summary.vanished, summary.failed_before = len(todo.vanished), len(survey.failed_before)
        summary.skipped = todo.done + sum(map(len, todo.touched.values()))
        stored = (row for rows in survey.state.shards.values() for row in rows)
        failed = {row.image for row in stored if row.status == "failed"}
        # a run that was killed had no time to put down those that it committed
        self.unsaid.failed = (self.unsaid.failed | failed - set(self.attempts)) & failed
        self._before = failed - self.unsaid.failed
        self._tried = {source.key for source in survey.sources}
        self.attempts = {image: self.attempts.get(image, 1) for image in failed}
        self._found = {
            "digest": plan.digest,
            "device": plan.device,
            "config": plan.expanded,
        }
        self._left_out = {
            "skipped_files": dict(listing.skipped),
            "idle_table_rows": len(survey.idle),
        }
        if not survey.nothing_to_do:
            self.write("running")
        self.log("start", sources=len(survey.sources), shards=len(survey.shards))

    def shard(self, report: ShardReport) -> None:
        """Count a committed shard, and log its failures with the tracebacks of the unexpected."""
        summary = self.summary
        summary.done += report.done
        summary.failed += len(report.failed)
        summary.bytes += report.bytes
        summary.pixels += report.pixels
        self.effort.add(report.effort)
        for image, kind, error in report.failed:
            summary.kinds[kind] += 1
            if image not in self._before:
                self.unsaid.failed.add(image)
            self._tried.discard(image)
            self.attempts[image] = self.attempts.get(image, 0) + 1
            trace = dict(report.traces).get(image)
            extra = {"traceback": trace} if trace else {}
            self.log("failed", image=image, kind=kind, error=error, **extra)
        self.log("committed", shard=report.shard, done=report.done, failed=len(report.failed))

    def settle(self) -> None:
        """All has been tried: what was, and did not fail again, is done."""
        self.unsaid.failed -= self._tried
        self.summary.newly_failed = len(self.unsaid.failed)

    def end(self, code: int, error: str | None = None, trace: str | None = None) -> None:
        """Close the record of this run."""
        self.summary.seconds = time.monotonic() - self._clock
        details = {"error": error} if error else {}
        if trace:
            details["traceback"] = trace
        try:
            self.log("end", exit_code=code, **details)
        finally:
            self.write("finished" if error is None else "stopped", code, error)

    def write(self, state: str, code: int | None = None, error: str | None = None) -> None:
        """Replace run.json."""
        record = {
            "state": state,
            "exit_code": code,
            "error": error,
            "pid": os.getpid(),
            "process": birth(os.getpid()),
            "host": socket.gethostname(),
            "started": stamp(self.started),
            "ended": None if code is None else stamp(time.time()),
            "versions": versions(),
            **self._found,
            "counts": {**vars(self.summary), **self._left_out},
            "effort": self.effort.record(),
            "attempts": self.attempts,
            "unsaid": {"failed": sorted(self.unsaid.failed), "lost": self.unsaid.lost},
        }
        replace_file(self.root / RECORD, json.dumps(record, indent=1).encode())


def unsaid_of(root: Place) -> Unsaid:
    """What the last run's record leaves to this one."""
    try:
        found = json.loads((root / RECORD).read_bytes())["unsaid"]
        return Unsaid(set(map(str, found["failed"])), list(map(str, found["lost"])))
    except (OSError, ValueError, KeyError, TypeError):
        return Unsaid()


def last_run(root: Place) -> dict[str, Any]:
    """The record of the last run, with state `killed` where its process is gone without a word.

    A process of another host counts as running. Empty where there is no record that can be read.
    """
    try:
        record = dict(json.loads((root / RECORD).read_bytes()))
        if record["state"] == "running" and record["host"] == socket.gethostname():
            alive = birth(int(record["pid"])) == record["process"]
            record["state"] = "running" if alive else "killed"
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return record
