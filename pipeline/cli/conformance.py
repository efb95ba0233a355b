"""`filterbank conformance`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.exits import EPILOG
from pipeline.cli.group import cli

_FOLDER = click.Path(path_type=Path, file_okay=False)


@cli.command(epilog=EPILOG)
@click.option(
    "--kit",
    type=_FOLDER,
    required=True,
    metavar="DIR",
    help="The IBSI 2 kit: phase1.json, phantoms and reference maps.",
)
@click.option(
    "--configs",
    type=_FOLDER,
    default="configs/ibsi",
    show_default=True,
    metavar="DIR",
    help="Configs whose responses are named after the tests.",
)
@click.option(
    "--device", default="auto", show_default=True, metavar="KIND", help="auto, cpu or cuda."
)
@click.option("--only", multiple=True, metavar="GLOB", help="These tests only, as 3.*; repeatable.")
@click.option(
    "--out", type=_FOLDER, metavar="DIR", help="Keep each map as <id>.npy, indexed [x, y, z]."
)
def conformance(
    kit: Path, configs: Path, device: str, only: tuple[str, ...], out: Path | None
) -> None:
    """Compare filters with the reference maps of IBSI 2 phase 1; exits 9 unless all pass.

    \b
    Example: filterbank conformance --kit ../shared/ibsi
    The maps are those of normal runs into a temporary folder.
    """
    from pipeline.conformance import TOLERANCE, conform, save, worst

    verdicts = []
    for verdict in conform(kit, configs, device=device, only=only or ("*",)):
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
    if not all(verdict.passed for verdict in verdicts):
        raise click.exceptions.Exit(9)
