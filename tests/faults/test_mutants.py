"""Damage with a fixed seed to intact files of every format: no death, no hang, no lost row.

FILTERBANK_MUTANTS says how many, `make test` takes few.
"""

from __future__ import annotations

import csv
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from command import Figures, finish, forked, rows, write_config

COUNT = int(os.environ.get("FILTERBANK_MUTANTS", "60"))
SMALL = 8_000
CHECKED = (".png", ".apng")
"""Suffixes of formats in which each byte of the pixels is covered by a checksum."""

PASSING = {"crashed", "timeout", "io", "changed"}


def intact(shared: Path) -> list[Path]:
    """Small files that must decode, of all kinds."""
    root = shared / "hostile"
    with (root / "manifest.csv").open(newline="") as file:
        due = [row for row in csv.DictReader(file) if row["expectation"] == "MUST DECODE"]
    found = (root / "dev" / row["file"] for row in due if int(row["bytes"]) < SMALL)
    return sorted(path for path in found if path.exists())


def mutants(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """One damage of each kind: bits, a cut, zeros, junk behind, a piece twice, another length."""
    while True:
        bits = bytearray(data)
        for _ in range(chance.choice([1, 1, 3, 20])):
            bits[chance.randrange(len(bits))] ^= 1 << chance.randrange(8)
        yield bytes(bits)
        yield data[: chance.randrange(len(data))]
        at, length = chance.randrange(len(data)), chance.choice([1, 4, 64, 512])
        yield data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]
        yield data + chance.randbytes(length)
        yield data[:at] + data[max(0, at - length) :]
        head = bytearray(data)
        first = chance.randrange(min(len(head), 128))
        head[first : first + 4] = chance.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)])
        yield bytes(head)


def test_damaged_files_end_as_rows_and_never_as_other_pixels_where_there_are_checksums(
    shared: Path, tmp_path: Path, figures: Figures
) -> None:
    chance, images = random.Random(20261122), tmp_path / "in"
    sources = intact(shared)
    chance.shuffle(sources)
    endless = {path: mutants(path.read_bytes(), chance) for path in sources}
    names = set()
    for i in range(COUNT):
        path = sources[i % len(sources)]
        folder = images / path.stem.replace("#", "_")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"intact{path.suffix}").write_bytes(path.read_bytes())
        (folder / f"{i}{path.suffix}").write_bytes(next(endless[path]))
        names |= {f"{folder.name}/intact{path.suffix}", f"{folder.name}/{i}{path.suffix}"}
    config = write_config(
        tmp_path / "c.yaml", images, tmp_path / "out", input={"include": ["**/*"]},
        filters=["identity"], limits={"pixels": "2e7"}, run={"workers": 2 if COUNT > 1000 else 0},
    )  # fmt: skip
    with forked("run", config) as process:
        said = finish(process, timeout=3600)
    assert said.code == 5, said
    assert "Traceback" not in said.err + (tmp_path / "out/log.jsonl").read_text()
    found = rows(tmp_path / "out", "images")
    assert {name for row in found.values() for name in row["files"]} == names
    kinds = Counter(row["kind"] for row in found.values())
    assert not PASSING & kinds.keys(), kinds
    assert 0 < kinds[None] < len(found), kinds
    silent = altered(found, rows(tmp_path / "out", "statistics"))
    told = Counter(Path(name).suffix for name in silent)
    figures(f"{COUNT} mutants, rows by kind {dict(kinds)}, read to other pixels {dict(told)}")
    assert [name for name in silent if name.endswith(CHECKED)] == []


def altered(
    found: dict[tuple[str, ...], dict[str, object]],
    measured: dict[tuple[str, ...], dict[str, object]],
) -> list[str]:
    """Damaged images that were read, to other pixels than the intact one of their folder."""
    values = defaultdict(list)
    for (image, *_), row in measured.items():
        values[image].append((row["mean"], row["std"], row["n_valid"]))
    wrong = []
    for (image,), row in found.items():
        folder, _, file = image.partition("/")
        first, _, page = file.partition("#")
        twin = f"{folder}/intact{Path(first).suffix}" + ("#" + page if page else "")
        if row["status"] == "done" and values[image] != values[twin]:
            wrong.append(first)
    return wrong
