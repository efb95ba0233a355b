"""`filterbank conformance`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.cli.exits import EPILOG
from pipeline.cli.group import cli

_FOLDER = click.Path(path_type=Path, file_okay=False)
_CONFIGS = {"1": "configs/ibsi", "2": "configs/ibsi/phase_2"}


@cli.command(epilog=EPILOG)
@click.option(
    "--kit",
    type=_FOLDER,
    required=True,
    metavar="DIR",
    help="The IBSI 2 kit: lists of the tests, phantoms and references.",
)
@click.option(
    "--phase",
    type=click.Choice(["1", "2"]),
    default="1",
    show_default=True,
    help="1: response maps, 2: statistics of a CT scan.",
)
@click.option(
    "--configs",
    type=_FOLDER,
    metavar="DIR",
    help="Configs whose responses are named after the tests.  [default: "
    f"{_CONFIGS['1']}, or {_CONFIGS['2']}]",
)
@click.option(
    "--device", default="auto", show_default=True, metavar="KIND", help="auto, cpu or cuda."
)
@click.option("--only", multiple=True, metavar="GLOB", help="These tests only, as 3.*; repeatable.")
@click.option(
    "--out", type=_FOLDER, metavar="DIR", help="Keep each map as <id>.npy, indexed [x, y, z]."
)
def conformance(
    kit: Path,
    phase: str,
    configs: Path | None,
    device: str,
    only: tuple[str, ...],
    out: Path | None,
) -> None:
    """Compare with the references of IBSI 2; exits 9 unless all pass.

    \b
    Example: filterbank conformance --kit ../shared/ibsi --phase 2
    Maps and statistics are those of normal runs into a temporary folder.
    """
    if out is not None and phase == "2":
        message = "--out keeps the maps of phase 1; phase 2 has none"
        raise click.UsageError(message)
    folder = configs or Path(_CONFIGS[phase])
    globs = only or ("*",)
    wall, cpu = time.perf_counter(), time.process_time()
    passed = (
        _maps(kit, folder, device, globs, out)
        if phase == "1"
        else _values(kit, folder, device, globs)
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    click.echo(f"{wall:.1f} s, {cpu:.1f} s of CPU time")
    if not passed:
        raise click.exceptions.Exit(9)


def _maps(kit: Path, configs: Path, device: str, only: Sequence[str], out: Path | None) -> bool:
    """Print how every map of phase 1 compares; whether all pass."""
    from pipeline.conformance.maps import TOLERANCE, conform, save, worst

    verdicts = []
    for verdict in conform(kit, configs, device=device, only=only):
        verdicts.append(verdict)
        if out is not None:
            save(verdict, out)
        ratio = "-" if verdict.ratio is None else f"{verdict.ratio:.2e}"
        word = "pass" if verdict.passed else "FAIL"
        if verdict.ratio is None and verdict.passed:
            word = "computed"
        note = f"  ({verdict.why})" if verdict.why else ""
        click.echo(f"{verdict.test.id:<8}{verdict.test.family:<24}{ratio:<10}{word}{note}")
    click.echo()
    for family, most in worst(verdicts).items():
        click.echo(f"{'worst':<8}{family:<24}{most:.2e}")
    compared = [verdict for verdict in verdicts if verdict.test.reference is not None]
    passed = sum(verdict.passed for verdict in compared)
    click.echo(
        f"{passed} of {len(compared)} pass: no voxel differs by more than {TOLERANCE:.0%} of the "
        "reference map's range"
    )
    return all(verdict.passed for verdict in verdicts)


def _values(kit: Path, configs: Path, device: str, only: Sequence[str]) -> bool:
    """Print how every statistic of phase 2 compares; whether all pass."""
    from pipeline.conformance.values import conform

    verdicts = []
    for verdict in conform(kit, configs, device=device, only=only):
        verdicts.append(verdict)
        one = verdict.reference
        found = "-" if verdict.found is None else f"{verdict.found:.6g}"
        expected = f"{one.value:g} +- {one.tolerance:g}"
        word = "pass" if verdict.passed else "FAIL"
        note = f"  ({verdict.why})" if verdict.why else ""
        click.echo(f"{one.test:<6}{one.statistic:<12}{found:<14}{expected:<26}{word}{note}")
    click.echo()
    passed = sum(verdict.passed for verdict in verdicts)
    click.echo(f"{passed} of {len(verdicts)} pass: within the references' tolerances")
    return passed == len(verdicts)
