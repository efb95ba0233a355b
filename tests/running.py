"""Run a bank in this process as `filterbank run` does, without paying for a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from pipeline import store
from pipeline.bank.apply import apply_bank
from pipeline.config import load
from pipeline.journal import Journal
from pipeline.lock import locked
from pipeline.output import Output, open_output
from pipeline.run import run
from pipeline.stages.prepare import prepare, select
from pipeline.stages.read import Job, Tiles
from pipeline.survey import Options, Survey, root_of, survey


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
        journal = Journal(root)
        journal.begin(plan)
        for _ in run(plan, journal):
            pass
        journal.end(0)
    return open_output(root)


def exact_responses(plan: Survey) -> dict[tuple[str, str, str], npt.NDArray[np.float64]]:
    """(image, band, filter) -> what its statistics are taken of, each image computed alone.

    That is the response before it is rounded to the float32 of a map; invalid pixels are NaN.
    """
    found = {}
    for source in plan.sources:
        tiles = plan.plan.tiles(source)
        for batch in Tiles(plan.plan)[Job(0, tiles, plan.plan.box(tiles[0]))].batches:
            prepared = prepare(plan.plan, batch)
            for part in plan.plan.banks(source.header):
                for response in apply_bank(part.bank, select(prepared, part.bands, part.labels)):
                    values = response.residual[0].double().numpy()
                    if response.base is not None:
                        values = values + response.base[0].numpy()[:, None, None]
                    if response.valid is not None:
                        values = np.where(response.valid[0].numpy(), values, np.nan)
                    for band, plane in zip(response.bands, values, strict=True):
                        found[source.key, band, response.name] = plane
    return found


def failures(output: Output) -> dict[str, str]:
    """image -> `kind: error` of every failed row."""
    rows = output.images.select(["image", "status", "kind", "error"]).to_pylist()
    return {r["image"]: f"{r['kind']}: {r['error']}" for r in rows if r["status"] == "failed"}
