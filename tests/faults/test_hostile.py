"""The corpus of hostile files, in one run: no process dies, every file is a row, as its list says.

FILTERBANK_SLOW=1 takes all of it, `make test` a few files of each class.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from command import Figures, filterbank, finish, forked, group, rows, write_config

from pipeline.keys import unescape

SLOW = os.environ.get("FILTERBANK_SLOW") == "1"
NODATA = 42113  # GDAL_NODATA
READER_MIB, MAIN_MIB = 2048, 1536
"""What a process may need at most; torch alone is 300 of it."""

COMPLEX = "complex samples are refused by rule"
LABELS = "a DICOM segmentation labels another image and is none"
FRAMES = "the still picture is read; the animation's frames are out of order"
DEVIATIONS = {
    **dict.fromkeys(
        (
            "dicom_multi-frame/1862__liver_expb.dcm",
            "dicom_multi-frame/1866__liver_nonbyte_aligned_j2k.dcm",
        ),
        LABELS,
    ),
    **dict.fromkeys(
        (
            "png_animated/1937__sequence_fdat_fctl.png",
            "png_animated/1940__sequence_reorder_chunk.png",
            "png_animated/1943__sequence_start.png",
        ),
        FRAMES,
    ),
    "tiff_complex/0122__cint16.tif": COMPLEX,
    "tiff_complex/0204__complex_non_zero_real_zero_imag.tif": COMPLEX,
    "jpeg_plain/1483__random2_98x93_lossless_psv2_pt0.jpg": "JPEG of 2 bits: Pillow has no such",
    "png_broken/1949__syntax_num_frames_invalid.png": "libpng stops at a count that is no number",
    "tiff_no-georeference/0365__stripbytecounts_count_not_same_as_stripoffsets_count.tif": (
        "a strip without a size: what stands there is a guess"
    ),
    "other_jpeg2000/0493__single_block_32769_16385.jp2": (
        "is a scene that is read by windows; its memory is what is measured below"
    ),
}
"""Files that end otherwise than their list expects, and why; besides those that no reader knows."""

NO_READER = {"other_tga": 15, "other_avif": 5, "other_ico": 1, "other_sgi": 1}
"""Folders of formats that no reader knows, and how many of their files must decode."""


def corpus(root: Path) -> list[dict[str, str]]:
    """The files to take: all, or the two smallest of each class and kind of file.

    And the smallest of each folder that must decode: so each format is there that a reader knows.
    """
    with (root / "manifest.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if (root / "dev" / row["file"]).exists()]
    if SLOW:
        return found
    chosen, classes, formats = [], Counter[tuple[str, str]](), set[str]()
    for row in sorted(found, key=lambda row: int(row["bytes"])):
        kind = row["expectation"], row["category"].split("/")[0]
        new = row["expectation"] == "MUST DECODE" and row["category"] not in formats
        if new or classes[kind] < 2:
            chosen.append(row)
        classes[kind] += 1
        if new:
            formats.add(row["category"])
    return chosen


class Watch(threading.Thread):
    """Notes how much memory each process of a group held at most, in MiB."""

    def __init__(self, leader: int) -> None:
        super().__init__(daemon=True)
        self.leader, self.peaks, self.over = leader, dict[int, int](), threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            for pid in group(self.leader):
                with contextlib.suppress(OSError, StopIteration, IndexError):
                    status = Path(f"/proc/{pid}/status").read_text().splitlines()
                    line = next(line for line in status if line.startswith("VmHWM"))
                    self.peaks[pid] = int(line.split()[1]) >> 10


def test_every_hostile_file_is_a_row_of_the_kind_that_its_list_expects(
    shared: Path, tmp_path: Path, figures: Figures
) -> None:
    files = corpus(shared / "hostile")
    for row in files:
        target = tmp_path / "in" / row["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shared / "hostile/dev" / row["file"], target)
    config = write_config(
        tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out",
        input={"include": ["**/*"]}, filters=["identity"], limits={"pixels": "1e8"},
        run={"workers": 2 if SLOW else 0},
    )  # fmt: skip
    with forked("run", config) as process:
        watch = Watch(process.pid)
        watch.start()
        said = finish(process, timeout=1200)
        watch.over.set()
    assert said.code == 5, said
    assert "Traceback" not in said.err
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for row in rows(tmp_path / "out", "images").values():
        for name in row["files"]:
            error = row["error"] or ""
            found[unescape(name)].append((row["status"], row["kind"] or "", error))
    assert set(found) == {row["file"] for row in files}
    wrong = [line for row in files for line in judged(row, found[row["file"]])]
    assert wrong == []
    if SLOW:
        wanted = [row["file"] for row in files if row["expectation"] == "MUST DECODE"]
        unread = Counter(folder for name in wanted if (folder := unknown(name, found[name])))
        assert unread == NO_READER
    assert "Traceback" not in (tmp_path / "out/log.jsonl").read_text()
    most = sorted(watch.peaks.values(), reverse=True)[:3]
    figures(f"{len(files)} files, {len(DEVIATIONS)} deviations, most memory {most} MiB")
    assert watch.peaks[process.pid] <= MAIN_MIB, watch.peaks
    assert max(watch.peaks.values()) <= READER_MIB, watch.peaks


def judged(row: dict[str, str], found: list[tuple[str, str, str]]) -> Iterator[str]:
    """What is wrong with the rows of a file; an excuse that is not needed is wrong, too."""
    wanted = {
        "MUST DECODE": {"done"},
        "MUST ERROR": {"failed"},
        "MUST BE REFUSED": {"failed"},
        "MUST NOT EXCEED MEMORY": {"failed"},
        "EITHER": {"done", "failed"},
    }[row["expectation"]]
    name, states = row["file"], {status for status, _, _ in found}
    kinds = {kind for _, kind, _ in found} - {""}
    if kinds & {"crashed", "timeout", "io", "changed"}:
        yield f"{name}: {found}"
    excused = name in DEVIATIONS or unknown(name, found)
    if not states <= wanted and not excused:
        yield f"{name}: {row['expectation']}, but {found[:3]}"
    if states <= wanted and name in DEVIATIONS:
        yield f"{name}: no deviation any more"


def unknown(name: str, found: list[tuple[str, str, str]]) -> str | None:
    """The folder of a file that no reader knows, nor has to."""
    folder = name.partition("/")[0]
    unread = all(error.startswith("no reader knows this format") for _, _, error in found)
    return folder if unread and folder in NO_READER else None


def test_samples_that_are_no_numbers_are_counted_as_missing(shared: Path, tmp_path: Path) -> None:
    """As many as tifffile finds; they never reach a statistic."""
    wanted = {}
    with (shared / "hostile/manifest.csv").open(newline="") as file:
        named = [row["file"] for row in csv.DictReader(file) if row["dtype"].startswith("float")]
    for name in named:
        path = shared / "hostile/dev" / name
        if path.suffix not in (".tif", ".tiff") or not path.exists():
            continue
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            if len(tiff.pages) == 1 and page.samplesperpixel == 1 and NODATA not in page.tags:
                wanted[path.name] = int(np.isfinite(page.asarray()).sum())
                shutil.copy(path, tmp_path / path.name)
    assert len(wanted) > 3
    config = write_config(tmp_path / "c.yaml", tmp_path, tmp_path / "out", filters=["identity"])
    assert filterbank("run", config).code in (0, 5)
    found = rows(tmp_path / "out", "statistics")
    counts = {image: row["n_valid"] for (image, *_), row in found.items()}
    assert counts == wanted
    assert all(row["mean"] is None or math.isfinite(row["mean"]) for row in found.values())
