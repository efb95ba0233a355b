"""What a header shows to be impossible is refused before a pixel is read, and refused alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from command import filterbank
from running import failures, run_bank, write_config

from pipeline.output import open_output


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
def test_maps_that_do_not_fit_on_the_disk_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """`plan` answers as `run` would, also where there is no output folder yet."""
    config = disk_of(monkeypatch, tmp_path, total=1 << 30, free=6_000, shapes=[(40, 50)] * 2)
    said = filterbank(command, config)
    assert said.code == 3
    assert "do not fit on the disk" in said.err
    assert not list(tmp_path.glob("new/out/*/*.parquet"))


@pytest.mark.parametrize(
    ("total", "free", "reason"),
    [
        (1 << 30, 6_000, "io: its maps need at least 0.0 GiB of disk, more than is free; keep"),
        (6_000, 6_000, "limit: its maps need at least 0.0 GiB of disk, more than there is; keep"),
    ],
    ids=["free", "total"],
)
def test_an_image_whose_maps_alone_fit_on_no_disk_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, free: int, reason: str
) -> None:
    config = disk_of(monkeypatch, tmp_path, total=total, free=free, shapes=[(40, 50), (100, 90)])
    said = filterbank("run", config)
    assert said.code == 5, said
    output = open_output(tmp_path / "new" / "out")
    assert output.statistics.column("image").to_pylist() == ["0.npy"]
    (error,) = failures(output).values()
    assert error.startswith(reason)
    monkeypatch.undo()
    again = filterbank("run", config).out
    assert again.startswith("done 1" if total > free else "nothing to do"), again


def disk_of(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    total: int,
    free: int,
    shapes: list[tuple[int, int]],
) -> Path:
    """Images, a config that keeps their maps, and a disk of so many bytes."""
    (folder / "in").mkdir()
    for i, shape in enumerate(shapes):
        np.save(folder / "in" / f"{i}.npy", np.ones(shape, np.uint8))
    usage = SimpleNamespace(total=total, free=free)
    monkeypatch.setattr("pipeline.room.shutil", SimpleNamespace(disk_usage=lambda _: usage))
    return write_config(
        folder / "c.yaml",
        input={"path": str(folder / "in")},
        output={"path": str(folder / "new" / "out"), "maps": "float32"},
        run={"workers": 0, "device": "cpu"},
    )
