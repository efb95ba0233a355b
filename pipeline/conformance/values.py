"""Whether the statistics of IBSI 2's phase 2 come out of the normal pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.conformance.kit import listed, no_kit, outputs
from pipeline.output import Output
from pipeline.statistics import COLUMNS

IMAGE = "phantom.nii.gz"
"""The kit's volume; its mask lies beside it."""


@dataclass(frozen=True)
class Reference:
    """A value that the teams agreed on, and how far from it others may be."""

    test: str
    statistic: str
    value: float
    tolerance: float


@dataclass(frozen=True)
class Verdict:
    """How a statistic compares; found: None where there is none, and `why`."""

    reference: Reference
    found: float | None
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is within the tolerance."""
        if self.found is None:
            return False
        return abs(self.found - self.reference.value) <= self.reference.tolerance


def conform(
    kit: Path, configs: Path, *, device: str = "auto", only: Sequence[str] = ("*",)
) -> Iterator[Verdict]:
    """Run the configs on the kit's volume and compare every statistic, in the order of the kit.

    kit: a folder with `phase2.json` and the phantom with its mask; configs: a folder of config
    files whose responses are named after the tests; only: globs of the tests to run.

    Raises
    ------
    InputError
        Where the kit or the configs are not there.
    MissingDependency
        Without nibabel.
    """
    references = [
        one for one in references_of(kit) if any(fnmatchcase(one.test, glob) for glob in only)
    ]
    tests = tuple(dict.fromkeys(one.test for one in references))
    rows: dict[str, Mapping[str, float | None] | str] = {}
    for config, output in outputs(configs, kit / "ct_phantom", tests, device):
        rows |= {named.name: _row(output, named.name) for named in config.filters}
    for one in references:
        row = rows.get(one.test, f"no config in {configs} computes it")
        if isinstance(row, str):
            yield Verdict(one, None, row)
        else:
            found = row.get(one.statistic)
            yield Verdict(one, found, "" if found is not None else "the config leaves it out")


def references_of(kit: Path) -> list[Reference]:
    """The kit's values, by the names that our columns have. Raises InputError."""
    phase = listed(kit, 2)
    names = {column.ibsi: name for name, column in COLUMNS.items() if column.ibsi}
    try:
        codes = {row["tag"]: row["ibsi_code"] for row in phase["about"]["features"]}
        return [
            Reference(test["id"], names.get(codes[tag], codes[tag]), one["value"], one["tolerance"])
            for test in phase["tests"]
            for tag, one in test["reference"].items()
            if one["value"] is not None  # no consensus
        ]
    except (KeyError, TypeError) as error:
        raise no_kit(kit, 2, error) from error


def _row(output: Output, test: str) -> Mapping[str, float | None] | str:
    """The statistics of a response in the one region that is measured, or why there are none."""
    errors = {row["image"]: row["error"] for row in output.images.to_pylist()}
    if error := errors.get(IMAGE, f"{IMAGE} is not among the config's images"):
        return str(error)
    rows = [
        row
        for row in output.statistics.to_pylist()
        if row["image"] == IMAGE and row["filter"] == test
    ]
    return rows[0] if len(rows) == 1 else f"{len(rows)} regions are measured, not one"
