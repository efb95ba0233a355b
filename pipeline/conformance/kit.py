"""The IBSI 2 kit: what its lists say, and runs over its volumes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline import store
from pipeline.config import Config, load
from pipeline.errors import InputError, MissingDependency
from pipeline.journal import Journal
from pipeline.lock import locked
from pipeline.output import Output, open_output
from pipeline.run import run
from pipeline.survey import Options, survey


def listed(kit: Path, phase: int) -> dict[str, Any]:
    """What the kit's list of a phase holds. Raises InputError where there is none."""
    try:
        found: dict[str, Any] = json.loads((kit / f"phase{phase}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise no_kit(kit, phase, error) from error
    return found


def no_kit(kit: Path, phase: int, error: Exception) -> InputError:
    """What to say of a folder that is no kit."""
    return InputError(f"{str(kit)!r} holds no kit of IBSI 2 phase {phase} ({error}); check --kit")


def outputs(
    configs: Path, volumes: Path, wanted: Sequence[str], device: str
) -> Iterator[tuple[Config, Output]]:
    """Run every config on a folder of volumes, for responses of these names only.

    Results lie in a temporary folder, which goes when the iterator does.

    Raises
    ------
    InputError
        Where the configs are not there.
    MissingDependency
        Without nibabel: the volumes are NIfTI files.
    """
    paths = sorted(configs.glob("*.yaml"))
    if not paths:
        message = f"{str(configs)!r} holds no config; run from a checkout, or give --configs"
        raise InputError(message)
    if find_spec("nibabel") is None:
        message = "the kit's volumes are NIfTI files: pip install 'filterbank[medical]'"
        raise MissingDependency(message)
    with tempfile.TemporaryDirectory(prefix="filterbank-") as folder:
        for path in paths:
            given = {
                "input.path": (str(volumes),),
                "output.path": str(Path(folder) / path.stem),
                "run.device": device,
                "run.workers": 0,
            }
            config = load(path, given)
            filters = tuple(named for named in config.filters if named.name in wanted)
            if filters:
                config = replace(config, filters=filters)
                yield config, _run(config)


def _run(config: Config) -> Output:
    """What `filterbank run` does, without words about it."""
    root = Path(config.output.path)
    with locked(root):
        store.clean(root)
        plan = survey(config, Options())
        journal = Journal(root)
        journal.begin(plan)
        for _ in run(plan, journal):
            pass
        journal.end(0)
    return open_output(root)
