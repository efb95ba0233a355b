"""Run a bank in this process as `filterbank run` does, without paying for a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline import store
from pipeline.config import load
from pipeline.journal import Journal
from pipeline.lock import locked
from pipeline.output import Output, open_output
from pipeline.run import run
from pipeline.survey import Options, Survey, root_of, survey

TIMED = frozenset({"run.json", "log.jsonl", ".lock"})
"""The only files of an output folder that may depend on time, host or worker count."""


def write_config(path: Path, **sections: Any) -> Path:
    """A config file with these sections, and the least that must stand beside them."""
    least = {"version": 1, "input": {"path": "unused"}, "output": {"path": "unused"}}
    sections = {**least, "filters": ["identity"], **sections}
    path.write_text(yaml.safe_dump(sections))
    return path


Paths = Path | Sequence[Path] | None


def look(config: Path, output: Path, input: Paths = None, **flags: Any) -> Survey:
    """What a run would do; flags are those of the command line that stand in `run:`."""
    paths = (input,) if isinstance(input, Path) else input
    flags = {"workers": 0, "device": "cpu"} | flags
    given: Mapping[str, Any] = {
        "output.path": str(output),
        "input.path": paths and tuple(map(str, paths)),
        **{f"run.{name}": value for name, value in flags.items()},
    }
    return survey(load(config, given), Options())


def run_bank(config: Path, output: Path, input: Paths = None, **flags: Any) -> Output:
    """Run to the end and open what it left; one reader in this process unless flags say more."""
    root = root_of(look(config, output, input, **flags).plan.config)
    with locked(root):
        store.clean(root)
        plan = look(config, output, input, **flags)
        journal = Journal(plan)
        for _ in run(plan, journal):
            pass
        journal.end(0)
    return open_output(root)


def tree(root: Path) -> dict[str, bytes]:
    """Every file below an output folder that has to be the same in every run."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in TIMED
    }


def failures(output: Output) -> dict[str, str]:
    """image -> `kind: error` of every failed row."""
    rows = output.images.select(["image", "status", "kind", "error"]).to_pylist()
    return {r["image"]: f"{r['kind']}: {r['error']}" for r in rows if r["status"] == "failed"}
