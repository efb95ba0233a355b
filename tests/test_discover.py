"""What is listed, in which order, under which key - and what is never opened."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from command import draw, filterbank, rows, status_of, tree, write_config
from PIL import Image

from pipeline.config.schema import Input
from pipeline.discover import Listing, check_roots, list_members
from pipeline.errors import InputError
from pipeline.keys import unescape
from pipeline.patterns import compile_globs


def listed(*paths: Path | str, output: Path | None = None, **keys: object) -> Listing:
    given = Input(path=tuple(map(str, paths)), **keys)  # type: ignore[arg-type]
    return list_members(given, output=output, now=time.time())


def names(*paths: Path | str, **keys: object) -> list[str]:
    return [member.name for member in listed(*paths, **keys).members]  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.png", "sub/a.png", "sub/deep/c.tif", "B.PNG", "sub-x.png", "a.jpg"):
        draw(tmp_path / "in" / name, seed=1)
    (tmp_path / "in/readme.txt").write_text("no image")
    return tmp_path / "in"


def test_members_come_in_the_order_of_their_bytes_however_the_disk_lists_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ["B.PNG", "a.jpg", "a.png", "b.png", "sub-x.png", "sub/a.png", "sub/deep/c.tif"]
    real, chance = os.scandir, random.Random(1)

    def shuffled(path: str) -> list[os.DirEntry[str]]:
        entries = list(real(path))
        chance.shuffle(entries)
        return entries

    monkeypatch.setattr(os, "scandir", shuffled)
    for _ in range(10):
        assert names(folder) == expected


def test_a_file_a_folder_a_glob_and_a_list_have_keys_below_their_common_root(folder: Path) -> None:
    assert names(folder / "a.png") == ["a.png"]
    assert names(folder / "sub") == ["a.png", "deep/c.tif"]
    assert names(f"{folder}/*.png") == ["a.png", "b.png", "sub-x.png"]
    assert names(f"{folder}/**/*.png") == ["a.png", "b.png", "sub-x.png", "sub/a.png"]
    assert names(f"{folder}/s*/*.png") == ["sub/a.png"]
    assert names(folder / "a.png", folder / "sub") == ["a.png", "sub/a.png", "sub/deep/c.tif"]
    assert names(folder / "sub", folder / "sub/deep") == ["a.png", "deep/c.tif"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    draw(tmp_path / "a[1].png", seed=1)
    draw(tmp_path / "a1.png", seed=1)
    assert names(tmp_path / "a[1].png") == ["a[1].png"]


def test_include_and_exclude_choose_by_name_and_count_what_they_leave(folder: Path) -> None:
    found = listed(folder, include=("*.png", "*.txt"), exclude=("sub/**",))
    assert [m.name for m in found.members] == ["a.png", "b.png", "readme.txt", "sub-x.png"]
    assert found.skipped == Counter({"excluded": 2, "not included": 2})
    assert listed(folder).skipped == Counter({"no known image format": 1})


def test_a_glob_with_a_suffix_names_what_a_folder_leaves_out(folder: Path) -> None:
    (folder / "s.jp2").write_bytes(b"")
    (folder / "x.vrt").write_text("")
    assert names(f"{folder}/*.jp2") == ["s.jp2"]
    assert names(f"{folder}/*.vr?") == ["x.vrt"]
    for unnamed in (str(folder), f"{folder}/**", f"{folder}/*.*"):
        assert not {"s.jp2", "x.vrt", "readme.txt"} & set(names(unnamed))


@pytest.mark.parametrize(
    ("glob", "hits", "misses"),
    [
        ("*.png", ["a.png", "x/y/a.png"], ["a.PNG", "a.png.txt"]),
        ("x/*.png", ["x/a.png"], ["x/y/a.png", "a.png", "z/x/a.png"]),
        ("x/**/a.png", ["x/a.png", "x/y/z/a.png"], ["xy/a.png"]),
        ("x/**", ["x/a", "x/y/b"], ["x", "xy/a"]),
        ("[ab]?.tif", ["a1.tif", "q/b2.tif"], ["c1.tif", "a.tif"]),
        ("[!a].tif", ["b.tif"], ["a.tif"]),
        ("a.b+(c).png", ["a.b+(c).png"], ["aXb+(c).png"]),
    ],
)
def test_globs(glob: str, hits: list[str], misses: list[str]) -> None:
    match = compile_globs((glob,))
    assert [name for name in hits if not match(name)] == []
    assert [name for name in misses if match(name)] == []


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input .*nowhere' does not exist"):
        check_roots(Input(path=(str(tmp_path / "nowhere"),)))


def test_links_out_loops_pipes_devices_and_odd_folders_are_counted_and_never_opened(
    tmp_path: Path,
) -> None:
    """A FIFO would block whoever opens it for ever."""
    folder = tmp_path / "in"
    draw(folder / "good.png", seed=1)
    draw(folder / "dir.png/inside.png", seed=2)
    draw(tmp_path / "secret.png", seed=3)
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "folder_out").symlink_to(tmp_path, target_is_directory=True)
    (folder / "within.png").symlink_to("good.png")
    (folder / "dangling.png").symlink_to("nothing.png")
    (folder / "self.png").symlink_to("self.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    found = listed(folder, include=("**/*",))
    assert [m.name for m in found.members] == ["dir.png/inside.png", "good.png", "within.png"]
    assert found.skipped == Counter(
        {
            "link out of the input root": 2,
            "broken link": 2,
            "linked folder": 1,
            "not a regular file": 1,
        }
    )
    assert listed(folder / "pipe.png").skipped == Counter({"not a regular file": 1})
    assert listed("/dev/null").skipped == Counter({"not a regular file": 1})


def test_what_names_a_file_out_of_the_root_is_counted_and_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    inside, outside = draw(folder / "tile.tif", seed=1), draw(tmp_path / "secret.tif", seed=2)
    draw(folder / "masked.tif", seed=3)
    (folder / "masked.tif.msk").symlink_to(outside)
    (folder / "link.tif").symlink_to(outside)
    named = {"good": inside, "up": "../secret.tif", "absolute": outside, "linked": "link.tif"}
    for name, source in named.items():
        relative = int(not Path(source).is_absolute())
        text = f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        (folder / f"{name}.vrt").write_text(f"<VRTDataset>{text}</VRTDataset>")
    found = listed(folder, include=("*.vrt", "masked.tif"))
    assert [m.name for m in found.members] == ["good.vrt"]
    assert found.skipped["names a file out of the input root"] == 4


def test_the_output_folder_inside_the_input_folder_is_never_input(tmp_path: Path) -> None:
    draw(tmp_path / "in/a.png", seed=1)
    (tmp_path / "link").symlink_to(tmp_path / "in", target_is_directory=True)
    for output in (tmp_path / "in/out", tmp_path / "link/out"):
        config = write_config(tmp_path / "c.yaml", tmp_path / "in", output)
        assert filterbank("run", config).code == 0
        assert filterbank("run", config).out.startswith("nothing to do: 1 image is")


def test_names_that_differ_in_suffix_case_or_folder_never_meet(tmp_path: Path) -> None:
    pictures = {"a.png": "PNG", "A.PNG": "PNG", "a.PNG": "PNG", "a.jpg": "JPEG", "sub/a.png": "PNG"}
    for i, (name, kind) in enumerate(pictures.items()):
        (tmp_path / "in/sub").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(tmp_path / "in" / name, format=kind)
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out")
    assert filterbank("run", config).code == 0
    means = {
        key[0]: row["mean"]
        for key, row in rows(tmp_path / "out", "statistics").items()
        if key[3] == "gaussian(sigma=1)"
    }
    assert means == {name: pytest.approx(40 * i, abs=1e-3) for i, name in enumerate(pictures)}
    drawn = {path.parent.parent.relative_to(tmp_path / "out/png").as_posix()
             for path in (tmp_path / "out/png").rglob("*.png") if path.is_file()}  # fmt: skip
    assert drawn == set(pictures)


def test_a_folder_of_naughty_names_is_done_whole_and_every_key_leads_back_to_its_file(
    shared: Path, tmp_path: Path
) -> None:
    naughty = [os.fsencode(n) for n in json.loads((shared / "hostile/names.json").read_text())]
    naughty += [b"\xff\xfe\x80.png", b"new\nline", b"x" * 255, "é".encode() * 127, b"\x1b[31mred"]
    data = draw(tmp_path / "one.png", seed=1, size=4).read_bytes()
    (tmp_path / "in").mkdir()
    made = {
        name[:255]
        for name in naughty
        if name and not {b"/", b"\0"} & {bytes([n]) for n in name} and name not in (b".", b"..")
    }
    for name in made:
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(data)
    assert len(made) > 300
    config = write_config(
        tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out", filters=["laplacian"]
    )
    said = filterbank("run", config)
    assert said.code == 0, said
    status = status_of(tmp_path / "out")
    assert {os.fsencode(unescape(key)) for key in status} == made
    assert len(status) == len(made)
    pictures = [name for name in tree(tmp_path / "out") if name.startswith("png/")]
    assert len(pictures) == len(made)
    assert filterbank("verify", tmp_path / "out").code == 0
    assert filterbank("run", config).out.startswith("nothing to do")
    table = tmp_path / "wide.csv"
    assert filterbank("export", tmp_path / "out", table).code == 0
