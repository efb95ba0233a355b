"""What a header shows to be impossible is refused before a pixel is read, and refused alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from running import failures, run_bank, write_config

from pipeline.cli import main


def test_luminance_is_made_of_colours_found_by_name(tmp_path: Path) -> None:
    """A fourth band (near infrared) takes no part, and neither does its validity."""
    stored = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(5, 6, 4)
    tifffile.imwrite(
        tmp_path / "scene.tif", stored, photometric="rgb", extrasamples=["unspecified"]
    )
    config = write_config(
        tmp_path / "c.yaml",
        input={"path": str(tmp_path), "bands": "luminance", "nodata": 119},
        output={"path": "unused", "maps": "float32"},
    )
    found = run_bank(config, tmp_path / "out").maps("scene.tif", "identity")
    np.testing.assert_allclose(found, stored[..., :3] @ [0.299, 0.587, 0.114], rtol=1e-6)


def test_an_image_without_colours_has_no_luminance_and_stops_nobody(tmp_path: Path) -> None:
    for bands in (1, 2, 3):
        samples = np.zeros((4, 4, bands), np.uint8)
        name = tmp_path / f"{bands}.tif"
        tifffile.imwrite(
            name, samples, photometric="minisblack", planarconfig="contig" if bands > 1 else None
        )
    config = write_config(
        tmp_path / "c.yaml",
        input={"path": str(tmp_path), "bands": "luminance"},
    )
    output = run_bank(config, tmp_path / "out")
    reason = "unsupported: luminance needs one band, or red, green and blue; its bands are 1, 2"
    assert failures(output) == {"2.tif": reason, "3.tif": f"{reason}, 3"}
    assert output.statistics.column("image").to_pylist() == ["1.tif"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_maps_that_fit_on_no_disk_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    """`plan` answers as `run` would, also where there is no output folder yet."""
    shape = (1_000_000, 100_000)
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, shape)  # takes no space
    config = write_config(
        tmp_path / "c.yaml",
        input={"path": str(tmp_path / "a.npy")},
        filters=[{"random": {"count": 64, "size": 3}}],
        output={"path": str(tmp_path / "new" / "out"), "maps": "float32"},
        limits={"pixels": 10**12, "bytes": "1TiB"},
        run={"memory": "100000TiB", "workers": 0},
    )
    monkeypatch.setattr(sys, "argv", ["filterbank", command, str(config)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 3
    assert "do not fit on the disk" in capsys.readouterr().err
