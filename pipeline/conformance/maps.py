"""Whether the response maps of IBSI 2's phase 1 come out of the normal pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.conformance.kit import listed, no_kit, outputs
from pipeline.output import Output
from pipeline.readers.base import READERS
from pipeline.types import Region

TOLERANCE = 0.01
"""Of the reference map's range, for every voxel: the rule of the reference data."""

Map: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Test:
    """One test of the kit; `reference` is None where the teams found no consensus."""

    id: str
    family: str
    phantom: str
    reference: Path | None


@dataclass(frozen=True)
class Verdict:
    """How a map compares: max |map - reference| / range of the reference; None without one.

    found: the map, (z, y, x), or None where there is none; why: what went wrong with it.
    """

    test: Test
    found: Map | None
    ratio: float | None
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether the map is within the tolerance, or at least there where none is to compare."""
        return self.found is not None and (self.ratio is None or self.ratio <= TOLERANCE)


def conform(
    kit: Path, configs: Path, *, device: str = "auto", only: Sequence[str] = ("*",)
) -> Iterator[Verdict]:
    """Run the configs on the kit's phantoms and compare every map, in the order of the kit.

    kit: a folder with `phase1.json`, phantoms and reference maps; configs: a folder of config files
    whose responses are named after the tests; only: globs of the tests to run.

    Raises
    ------
    InputError
        Where the kit or the configs are not there.
    MissingDependency
        Without nibabel.
    """
    tests = [test for test in tests_of(kit) if any(fnmatchcase(test.id, glob) for glob in only)]
    wanted = {test.id: test for test in tests}
    found: dict[str, Map | str] = {}
    for config, output in outputs(configs, kit / "phantoms", tuple(wanted), device):
        for named in config.filters:
            found[named.name] = _map(output, wanted[named.name])
    for test in tests:
        yield _verdict(test, found.get(test.id, f"no config in {configs} computes it"))


def tests_of(kit: Path) -> list[Test]:
    """The kit's tests, those without a reference last. Raises InputError."""
    phase = listed(kit, 1)
    try:
        return [
            Test(
                row["id"],
                row["family"],
                Path(row["phantom"]).name,
                kit / row["reference"] if row["reference"] else None,
            )
            for row in [*phase["tests"], *phase["tests_without_reference"]]
        ]
    except (KeyError, TypeError) as error:
        raise no_kit(kit, 1, error) from error


def worst(verdicts: Sequence[Verdict]) -> Mapping[str, float]:
    """The largest ratio of each family that has references."""
    found: dict[str, float] = {}
    for verdict in verdicts:
        if verdict.ratio is not None:
            family = verdict.test.family
            found[family] = max(found.get(family, 0.0), verdict.ratio)
    return found


def save(verdict: Verdict, folder: Path) -> None:
    """Write a map as `<id>.npy`, dots as underscores, indexed [x, y, z] as IBSI's tools do."""
    if verdict.found is not None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{verdict.test.id.replace('.', '_')}.npy", verdict.found.T)


def _map(output: Output, test: Test) -> Map | str:
    """The map of a test, or why there is none."""
    errors = {row["image"]: row["error"] for row in output.images.to_pylist()}
    error = errors.get(test.phantom, f"{test.phantom} is not among the config's images")
    return error or output.maps(test.phantom, test.id)


def _verdict(test: Test, found: Map | str) -> Verdict:
    if isinstance(found, str):
        return Verdict(test, None, None if test.reference is None else inf, found)
    if test.reference is None:
        return Verdict(test, found, None, "no reference")
    reference = _read(test.reference)
    if found.shape != reference.shape:
        return Verdict(test, found, inf, f"shape {found.shape}, expected {reference.shape}")
    if not np.isfinite(found).all():
        return Verdict(test, found, inf, "voxels that are no number")
    difference = np.abs(found.astype(np.float64) - reference).max()
    return Verdict(test, found, float(difference / np.ptp(reference)))


def _read(path: Path) -> Map:
    reader = READERS["nifti"]()
    (info,) = reader.probe(str(path))
    with reader.open(str(path), 0) as window:
        voxels: Map = window.read(Region.whole(info.shape))[0].astype(np.float64)
    return voxels
