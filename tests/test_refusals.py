"""What a header shows to be impossible is refused before a pixel is read, and refused alone."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from command import filterbank, tree
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


def test_an_image_larger_than_the_disk_fails_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = disk_of(monkeypatch, tmp_path, total=6_000, free=6_000, shapes=[(40, 50), (100, 90)])
    said = filterbank("run", config)
    assert said.code == 5, said
    output = open_output(tmp_path / "new" / "out")
    assert output.statistics.column("image").to_pylist() == ["0.npy"]
    (error,) = failures(output).values()
    assert error.startswith("limit: its maps need at least 17.6 KiB of disk, more than there is; ")
    monkeypatch.undo()
    assert filterbank("run", config).out.startswith("nothing to do")


def test_what_does_not_fit_on_a_full_disk_waits_however_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said about it in the results, so that all is done when the disk is freed.

    The pages of one file wait together, and so does a changed image, whose old results stay.
    """
    with monkeypatch.context() as patch:
        config = disk_of(patch, tmp_path, total=1 << 30, free=16_000, shapes=[(40, 50)] * 3)
        pages = (np.ones((8, 8), np.uint8), np.ones((100, 90), np.uint8))
        with tifffile.TiffWriter(tmp_path / "in" / "pages.tif") as file:
            for page in pages:
                file.write(page, photometric="minisblack")
        for i in range(4):
            np.save(tmp_path / "in" / "1.npy", np.full((40, 50) if i == 0 else (100, 90), i))
            said = filterbank("run", config, "--fail-on", "none")
            assert said.code == 7, said
            assert "wait for space on the disk of" in said.err or "1 image waits" in said.err
            assert said.err.strip().endswith("(15.6 KiB free); free the disk and run again")
            assert said.out.startswith("done 3, failed 0" if i == 0 else "nothing to do")
            assert f"left undone {2 if i == 0 else 3}" in said.out
            output = open_output(tmp_path / "new" / "out")
            assert output.images.column("image").to_pylist() == ["0.npy", "1.npy", "2.npy"]
            record = json.loads((tmp_path / "new" / "out" / "run.json").read_bytes())
            assert (record["exit_code"], record["attempts"]) == (7, {})
        assert "for space on the disk" in filterbank("plan", config).err
    said = filterbank("run", config)
    assert (said.code, said.out[:8]) == (0, "done 3, "), said
    assert open_output(tmp_path / "new" / "out").images.num_rows == 5


def test_a_damaged_shard_waits_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done again without one of its images it would be whole, and that one's pictures lost."""
    config = disk_of(
        monkeypatch, tmp_path, total=1 << 30, free=1 << 29, shapes=[(40, 50), (90, 90)]
    )
    root = tmp_path / "new" / "out"
    config.write_text(config.read_text().replace("maps: float32", "maps: float32\n  png: true"))
    assert filterbank("run", config).code == 0
    before = tree(root)
    for path in (root / "png").glob("*/sheet.png"):
        path.unlink()
    full = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(total=1 << 30, free=6_000))
    monkeypatch.setattr("pipeline.diskspace.shutil", full)
    said = filterbank("run", config)
    assert said.code == 7, said
    assert "2 images wait" in said.err
    monkeypatch.undo()
    assert filterbank("run", config).code == 0
    assert tree(root) == before


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
    monkeypatch.setattr("pipeline.diskspace.shutil", SimpleNamespace(disk_usage=lambda _: usage))
    return write_config(
        folder / "c.yaml",
        input={"path": str(folder / "in")},
        output={"path": str(folder / "new" / "out"), "maps": "float32"},
        run={"workers": 0, "device": "cpu"},
    )


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--input", "memory://in"], 3, "memory://in: memory:// is seen by one process only"),
        (["--output", "memory://out"], 3, "memory://out: memory:// is seen by one process only"),
        ([], 8, r"filterbank\[ray\]; install it"),
    ],
    ids=["input", "output", "extra"],
)
def test_what_no_cluster_could_do_is_refused(
    flags: list[str],
    code: int,
    says: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`plan` answers as `run` does, which asks for no cluster before."""
    ray = None if code == 8 else SimpleNamespace(__spec__="here")
    monkeypatch.setitem(sys.modules, "ray", ray)
    output = {"path": str(tmp_path / "out")}
    config = write_config(tmp_path / "c.yaml", input={"path": str(tmp_path)}, output=output)
    said = filterbank(
        command, config, "--executor", "ray", "--address", "127.0.0.1:1", "--device", "cpu", *flags
    )
    assert said.code == code, said
    assert re.search(says, said.err)
