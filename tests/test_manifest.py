"""`input.sha256`: files that are not what a list of sums says."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command import draw, filterbank, rows, status_of, tree, write_config
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.manifest import read_manifest

NAMES = ("a.png", "sub/b.png", "new\nline.png", "back\\slash.png", "\udcff.png", " blank .png")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        draw(tmp_path / "in" / name, seed=seed, size=8)
    return tmp_path / "in"


def sums(images: Path, *flags: str) -> bytes:
    """What `sha256sum` says of all files below a folder, in it."""
    found = ["sha256sum", *flags, "--", *sorted(p.relative_to(images) for p in images.rglob("*.*"))]
    return subprocess.run(found, cwd=images, capture_output=True, check=True).stdout


@pytest.mark.parametrize("flags", [(), ("--binary",)])
def test_what_sha256sum_writes_is_read_with_every_name(images: Path, flags: tuple[str]) -> None:
    manifest = images.parent / "sums"
    manifest.write_bytes(b"# comment\n\n" + sums(images, *flags).replace(b" a.png", b" ./a.png"))
    expected = {n: hashlib.sha256((images / n).read_bytes()).hexdigest() for n in NAMES}
    assert read_manifest(str(manifest)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"0" * 63 + b"  a.png\n", r"sums:1: no line of sha256sum"),
        (b"\n" + b"0" * 64 + b"\n", r"sums:2: no line of sha256sum"),
        (b"0" * 64 + b"  a\n" + b"1" * 64 + b"  ./a\n", r"sums:2: another sum of the same name"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"sums:1: no line of sha256sum"),
        (None, r"sums: cannot be read: No such file or directory; check input.sha256"),
    ],
)
def test_what_is_no_list_of_sums_is_refused_with_its_line(
    images: Path, text: bytes | None, says: str
) -> None:
    manifest = images.parent / "sums"
    if text is not None:
        manifest.write_bytes(text)
    with pytest.raises(ConfigError, match=says):
        read_manifest(str(manifest))
    given = {"sha256": str(manifest)}
    config = write_config(images.parent / "c.yaml", images, images.parent / "out", input=given)
    said = filterbank("run", config)
    assert (said.code, "Traceback" in said.err) == (2, False)


def test_files_that_differ_fail_alone_and_are_done_once_they_or_the_list_are_right(
    images: Path, tmp_path: Path
) -> None:
    """Rows of the others, and a folder that agrees, are those of a run without a list."""
    manifest, out = tmp_path / "sums", tmp_path / "out"
    config = write_config(tmp_path / "c.yaml", images, out)
    assert filterbank("run", config, "--output", tmp_path / "without").code == 0
    right = sums(images)
    manifest.write_bytes(right.replace(right[:8], b"01234567").replace(b"  sub/b.png", b"  b.png"))
    config = write_config(tmp_path / "c.yaml", images, out, input={"sha256": str(manifest)})
    assert filterbank("run", config).code == 5
    failed = {k[0]: r for k, r in rows(out, "images").items() if r["status"] == "failed"}
    assert {image: row["kind"] for image, row in failed.items()} == {
        " blank .png": "corrupt",
        "sub/b.png": "incomplete",
    }
    assert "differs from the manifest" in failed[" blank .png"]["error"]
    assert "is not in the manifest" in failed["sub/b.png"]["error"]
    plain = rows(tmp_path / "without", "statistics")
    others = {k: r for k, r in rows(out, "statistics").items() if k[0] not in failed}
    assert others == {k: r for k, r in plain.items() if k[0] not in failed}
    assert filterbank("run", config).out.startswith("nothing to do")
    manifest.write_bytes(right)
    assert filterbank("run", config).code == 0
    assert filterbank("run", config).out.startswith("nothing to do")
    assert rows(out, "statistics") == plain


def test_a_list_that_is_added_later_is_compared_with_what_was_done_before(
    images: Path, tmp_path: Path
) -> None:
    manifest, out = tmp_path / "sums", tmp_path / "out"
    assert filterbank("run", write_config(tmp_path / "c.yaml", images, out)).code == 0
    before = tree(out)
    right = sums(images)
    manifest.write_bytes(right)
    config = write_config(tmp_path / "c.yaml", images, out, input={"sha256": str(manifest)})
    assert filterbank("run", config).code == 0
    after = tree(out)
    assert {name for name in before if before[name] != after[name]} == {
        name for name in before if name.startswith("images/")
    }
    manifest.write_bytes(right.replace(right[:8], b"01234567"))
    assert filterbank("run", config).code == 5
    assert [i for i, (status, _) in status_of(out).items() if status == "failed"] == [" blank .png"]


def test_every_damage_of_a_jpeg_is_noticed(tmp_path: Path) -> None:
    """Without a list hardly any is: the format has no checksums."""
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    images = tmp_path / "in"
    images.mkdir()
    for i in range(24):
        Image.fromarray(pixels).save(images / f"{i:02}.jpg")
    (tmp_path / "sums").write_bytes(sums(images))
    for i, path in enumerate(sorted(images.iterdir())):
        data = bytearray(path.read_bytes())
        data[len(data) * (i + 40) // 64] ^= 1 << i % 8
        status = path.stat()
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    config = write_config(
        tmp_path / "c.yaml", images, tmp_path / "out", input={"sha256": str(tmp_path / "sums")}
    )
    assert filterbank("run", config).code == 5
    assert set(status_of(tmp_path / "out").values()) == {("failed", "corrupt")}
    shutil.rmtree(tmp_path / "out")
    assert "done" in filterbank("run", write_config(config, images, tmp_path / "out")).out
    assert ("done", None) in status_of(tmp_path / "out").values()
