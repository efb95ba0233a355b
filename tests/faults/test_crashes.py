"""A file that kills the process reading it costs nobody else anything."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import time
from pathlib import Path

import deadly
import pytest
from command import (
    draw,
    filterbank,
    finish,
    forked,
    group,
    rows,
    started,
    status_of,
    tree,
    write_config,
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """70 images: two shards."""
    for i in range(70):
        draw(tmp_path / f"in/{i:03}.png", seed=i)
    return tmp_path / "in"


def test_a_crashing_file_is_tried_again_until_its_attempts_are_used_up_and_then_left_alone(
    images: Path, tmp_path: Path
) -> None:
    for path in sorted(images.iterdir())[3:]:
        path.unlink()
    deadly.write(images / "x.deadly", signal.SIGSEGV)
    config = write_config(
        tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 1, "max_attempts": 1}
    )
    outs = []
    for _ in range(2):
        with started("run", config, env=deadly.install(tmp_path)) as process:
            said = finish(process)
        assert said.code == 5, said
        outs.append(said.out)
    assert [out.startswith("nothing to do") for out in outs] == [False, True]


def test_in_the_main_process_a_deadly_file_ends_the_run_but_not_what_was_committed(
    images: Path, tmp_path: Path
) -> None:
    """`--workers 0` reads in the main process: the price is named here, and it is no more."""
    for i in range(70, 200):
        draw(images / f"{i:03}.png", seed=i)
    deadly.write(images / "195.deadly", signal.SIGSEGV)
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"threads": 1})
    with started("run", config, env=deadly.install(tmp_path)) as process:
        assert finish(process).code == -signal.SIGSEGV
    assert len(status_of(tmp_path / "out")) == 128, "but the shard that ends with the next load"
    (images / "195.deadly").unlink()
    assert filterbank("run", config).code == 0
    status = status_of(tmp_path / "out")
    assert set(status.values()) == {("done", None)}
    assert len(status) == 200


def test_where_no_reader_can_be_started_a_run_ends_with_10_and_goes_on_later(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted(images.iterdir())[3:]:
        path.unlink()
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 1})

    def refuse() -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as full:
        full.setattr("pipeline.workers.pool.start_forkserver", refuse)
        said = filterbank("run", config)
    assert said.code == 10, said
    assert "cannot be started: Resource temporarily unavailable; try --workers 0" in said.err
    record = json.loads((tmp_path / "out/run.json").read_bytes())
    assert (record["state"], record["exit_code"]) == ("stopped", 10)
    assert filterbank("run", config, "--workers", 0).code == 0
    assert set(status_of(tmp_path / "out").values()) == {("done", None)}


def test_a_reader_killed_from_outside_costs_no_file(images: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    with forked("run", config, "--workers", 2) as process:
        victims: list[int] = []
        while not victims:
            assert process.poll() is None
            victims = readers(process.pid)
            time.sleep(0.01)
        os.kill(victims[0], signal.SIGKILL)
        said = finish(process)
    assert (said.code, said.err) == (0, "")
    assert filterbank("run", config, "--output", tmp_path / "undisturbed").code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def readers(leader: int) -> list[int]:
    """Processes forked by the fork server of a run."""
    found = []
    for pid in group(leader):
        with contextlib.suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if parent in group(leader) and parent != leader:
                found.append(pid)
    return found


def test_bad_neighbours_change_no_bit_of_good_images(shared: Path, tmp_path: Path) -> None:
    """Damaged, unsupported and huge files in the same folder, shard and batch."""
    for i in range(50):
        draw(tmp_path / f"in/{i:02}.png", seed=i)
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out")
    assert filterbank("run", config, "--output", tmp_path / "without").code == 0
    good = (tmp_path / "in/10.png").read_bytes()
    (tmp_path / "in/10a.png").write_bytes(good[:-30])
    (tmp_path / "in/11a.png").write_bytes(good[:60] + bytes([good[60] ^ 1]) + good[61:])
    (tmp_path / "in/12a.png").write_bytes(b"")
    bomb = good[:16] + (60_000).to_bytes(4, "big") * 2 + good[24:]
    (tmp_path / "in/13a.png").write_bytes(bomb)
    (tmp_path / "in/14a.tif").write_bytes(b"%PDF-1.4 no image at all")
    for path in sorted((shared / "data/broken").iterdir()):
        shutil.copy(path, tmp_path / "in" / f"15{path.name}")
    said = filterbank("run", config)
    assert said.code == 5, said
    bad = {image for image, (status, _) in status_of(tmp_path / "out").items() if status != "done"}
    assert {"10a.png", "11a.png", "12a.png", "13a.png", "14a.tif"} <= bad
    assert not bad & {f"{i:02}.png" for i in range(50)}
    strangers = {f"15{path.name}" for path in (shared / "data/broken").iterdir()} | bad
    for table in ("images", "statistics", "regions", "maps"):
        here = {k: r for k, r in rows(tmp_path / "out", table).items() if k[0] not in strangers}
        assert here == rows(tmp_path / "without", table), table
