"""No byte of an input, its name or what it says writes outside, connects, runs or reads others."""

from __future__ import annotations

import ast
import json
import os
import pickle
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command import (
    draw,
    filterbank,
    finish,
    rows,
    started,
    status_of,
    tree,
    write_config,
)
from PIL import Image

import pipeline

slow = pytest.mark.skipif(
    os.environ.get("FILTERBANK_SLOW") != "1", reason="slow; FILTERBANK_SLOW=1 runs it"
)
SECRET = 77
MRF = (
    "<MRF_META><Raster><Size x='8' y='8' c='1'/><PageSize x='8' y='8' c='1'/>"
    "<DataFile>{0}/written.ppg</DataFile><IndexFile>{0}/written.idx</IndexFile></Raster>"
    "<CachedSource><Source>{1}</Source></CachedSource></MRF_META>"
)
VRT = (
    '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
    "<SimpleSource><SourceFilename>{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
    "</VRTRasterBand></VRTDataset>"
)
SVG = (
    '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file://{0}">]>'
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    '<image xlink:href="http://127.0.0.1:{1}/a.png"/>&x;</svg>'
)
EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n({0}/written) (w) file\nshowpage\n"
OME = (
    '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY x SYSTEM "file://{0}">]><OME><Image><Pixels>'
    '<TiffData><UUID FileName="../secret.tif">&x;</UUID></TiffData></Pixels></Image></OME>'
)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of files that name others, in a folder with a secret, a raster of one value."""
    import tifffile

    folder = tmp_path / "in"
    folder.mkdir()
    secret, pixels = tmp_path / "secret.tif", np.full((8, 8), SECRET, np.uint8)
    tifffile.imwrite(secret, pixels)
    Image.fromarray(pixels).save(tmp_path / "secret.png")
    texts = {
        "vrt": VRT.format(secret),
        "up": VRT.format("../secret.png"),
        "http": VRT.format("/vsicurl/http://127.0.0.1:9/a.tif"),
        "zip": VRT.format("/vsizip/../secret.zip/a.tif"),
        "wms": "<GDAL_WMS><Service name='WMS'><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service>"
        "<DataWindow><SizeX>8</SizeX><SizeY>8</SizeY></DataWindow></GDAL_WMS>",
        "mrf": MRF.format(tmp_path, secret),
        "svg": SVG.format(secret, 9),
        "eps": EPS.format(tmp_path),
        "pdf": "%PDF-1.4\n1 0 obj<</Type/Action/S/URI/URI(http://127.0.0.1:9/)>>endobj\n",
        "url": f"[InternetShortcut]\nURL=file://{secret}\n",
    }
    for name, text in texts.items():
        for suffix in ("tif", "png", "jp2", "vrt", "mrf", name):
            (folder / f"{name}.{suffix}").write_text(text)
    tifffile.imwrite(folder / "ome.tif", np.zeros((8, 8), np.uint8), description=OME.format(secret))
    (folder / "secret.tif").symlink_to(secret)
    with ZipFile(folder / "slip.zip", "w") as archive:
        archive.writestr("../written.png", b"x")
    draw(folder / "good.png", seed=1)
    return folder


def config_of(tmp_path: Path, images: Path, **sections: Any) -> Path:
    kept = sections.pop("kept", {})
    given = {"input": {"include": ["**/*"]}, "filters": ["identity"], **sections}
    path = write_config(tmp_path / "c.yaml", images, tmp_path / "out", **given)
    whole = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(whole | {"output": whole["output"] | kept}))
    return path


def refuses_all_but(good: set[str], folder: Path, out: Path) -> None:
    status = status_of(out)
    assert {image for image, (state, _) in status.items() if state == "done"} == good
    kinds = {kind for image, (state, kind) in status.items() if state == "failed"}
    assert kinds <= {"corrupt", "unsupported", "incomplete"}
    assert "/" not in "".join(r["error"] or "" for r in rows(out, "images").values())
    values = {row["mean"] for row in rows(out, "statistics").values()}
    assert SECRET not in values


def test_files_that_name_others_are_refused_and_nothing_is_written_or_read_for_them(
    hostile: Path, tmp_path: Path
) -> None:
    config = config_of(tmp_path, hostile)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert filterbank("run", config).code == 5
    made = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*") if p not in before}
    assert made == {"out"}
    refuses_all_but({"good.png"}, hostile, tmp_path / "out")
    skipped = json.loads((tmp_path / "out/run.json").read_text())["counts"]["skipped_files"]
    assert skipped["link out of the input root"] == 1


@slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_file_makes_a_run_connect_start_a_program_or_open_what_lies_outside(
    hostile: Path, tmp_path: Path
) -> None:
    config = config_of(tmp_path, hostile, run={"workers": 1})
    trace = tmp_path / "trace"
    calls = "trace=connect,execve,execveat,openat"
    prefix = ["unshare", "-n", "strace", "-f", "-qq", "-o", str(trace), "-e", calls]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here")
    with started("run", config, prefix=prefix) as process:
        assert finish(process, timeout=300).code == 5
    lines = trace.read_text().splitlines()
    sockets = [line for line in lines if "connect(" in line and "AF_UNIX" not in line]
    assert sockets == []
    programs = {line.split('"')[1] for line in lines if "execve" in line and " = 0" in line}
    others = {program for program in programs if "python" not in Path(program).name}
    assert others <= {"/sbin/ldconfig"}, "ctypes, which looks for a library of a package"
    opened = [line for line in lines if "openat" in line and str(tmp_path / "secret") in line]
    assert opened == []
    refuses_all_but({"good.png"}, hostile, tmp_path / "out")


# ---------------------------------------------------------------- what our own code may call
CALLS: dict[str, str] = {
    "Image.open": "formats",
    "rasterio.open": "driver",
    "np.load": "allow_pickle",
    "torch.load": "weights_only",
}
"""Functions that guess, unpickle or run code unless this argument is given."""

LETTERS = {"letters.py"}
"""What the processes of one run send to each other."""

SWITCHES = {"allow_pickle": "False", "weights_only": "True"}
FORBIDDEN = {
    "subprocess", "http", "urllib.request", "ftplib", "smtplib", "zipfile", "tarfile", "marshal",
    "shelve", "joblib", "requests",
}  # fmt: skip


def named(node: ast.expr) -> str:
    return ast.unparse(node)


def test_every_decoder_is_told_what_it_may_read_and_nothing_is_unpickled_unpacked_or_run() -> None:
    found = dict.fromkeys(CALLS, 0)
    for path in sorted(Path(pipeline.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = named(node.func)
                assert name not in ("eval", "os.system", "os.popen", "yaml.load"), path
                assert not name.startswith(("os.exec", "os.spawn")), path
                assert not name.startswith("pickle.load") or path.name in LETTERS, path
                assert not name.endswith(("unpack_archive", "extractall")), path
                for call, argument in CALLS.items():
                    if name == call:
                        found[call] += 1
                        given = {k.arg: k.value for k in node.keywords}
                        assert argument in given, f"{path}:{node.lineno}"
                        if argument in SWITCHES:
                            assert named(given[argument]) == SWITCHES[argument], path
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not FORBIDDEN.intersection(names), path
    assert all(found.values()), found


# ---------------------------------------------------------------- pickles
class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def bombs(folder: Path, canary: Path) -> Iterator[Path]:
    import torch

    bomb = Bomb(canary)
    for name in ("plain.pkl", "plain.pt", "plain.npy", "plain.safetensors", "plain.npz"):
        (folder / name).write_bytes(pickle.dumps(bomb, protocol=2))
        yield folder / name
    for name, legacy in (("new.pt", True), ("old.pth", False)):
        torch.save({"w": bomb}, folder / name, _use_new_zipfile_serialization=legacy)
        yield folder / name
    np.save(folder / "object.npy", np.array([bomb, bomb], object), allow_pickle=True)
    yield folder / "object.npy"
    np.savez(folder / "object.npz", a=np.array([bomb], object))
    yield folder / "object.npz"


def test_no_weights_and_no_image_are_unpickled(tmp_path: Path) -> None:
    canary, images = tmp_path / "canary", tmp_path / "in"
    images.mkdir()
    for path in bombs(images, canary):
        for tensor in (None, "w"):
            kernel = {"name": "k", "file": str(path), "tensor": tensor}
            given = [{"kernel": {key: text for key, text in kernel.items() if text}}]
            said = filterbank("check", config_of(tmp_path, images, filters=given))
            assert said.code == 2, path
            assert f"c.yaml:{said.err.split(':')[1]}:" in said.err
    assert filterbank("run", config_of(tmp_path, images)).code == 5
    assert {state for state, _ in status_of(tmp_path / "out").values()} == {"failed"}
    assert len(status_of(tmp_path / "out")) == 9
    assert not canary.exists()
    pickle.loads((images / "plain.pkl").read_bytes())
    assert canary.exists(), "these files are harmless: the test proves nothing"


# ---------------------------------------------------------------- configs
FULL = "version: 1\ninput: {path: in}\noutput: {path: out}\nfilters: [sobel]\n"
CONFIGS = {
    "call": "!!python/object/apply:os.system [touch canary]",
    "name": FULL.replace("{path: in}", "!!python/name:os.system x"),
    "twice": "version: 1\n" + FULL,
    "twice inside": FULL.replace("path: in", "path: in, path: out"),
    "on": FULL + "on: no",
    "sexagesimal": FULL.replace("1", "190:20:30"),
    "infinite": FULL.replace("1", "1e999"),
    "digits": FULL.replace("1", "9" * 5000),
    "hexadecimal": FULL.replace("1", "0x" + "f" * 5000),
    "format": FULL.replace("path: out", "path: 'out/{0.__class__}'"),
    "field": FULL.replace("path: out", "path: 'out/{image}'"),
    "zero in": FULL.replace("path: in", 'path: "in\\0"'),
    "zero out": FULL.replace("path: out", 'path: "out\\0"'),
    "table": FULL.replace("path: in", "path: in, table: /etc/passwd"),
    "itself": "a: &a [*a]",
    "key of itself": "&a : *a",
    "braces": "{" * 2000,
    "keys": "? " * 2000 + "x",
    "quotes": "'" * 9999,
    "marks": "\ufeff\ufeff",
    "bell": "\x07",
    "documents": "--- a\n--- b",
    "directive": "%YAML 9.9\n---\na: b",
    "tag": "%TAG ! tag:x,2000:\n---\n!y z",
    "many": FULL.replace("sobel", "sobel," * 60_000),
    "import": FULL + "derive: {a: \"__import__('os').system('touch canary')\"}",
    "formula": FULL + f"derive: {{a: '{'(' * 5000}1{')' * 5000}'}}",
    "long": "x" * (2 << 20),
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_hostile_config_is_refused_with_its_place_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_bytes(text.encode("utf-8"))
    began = time.process_time()
    said = filterbank("check", "x.yaml")
    assert time.process_time() - began < 10
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("x.yaml:")
    assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


# ---------------------------------------------------------------- names and metadata
NASTY = "a\x1b[2J\x1b]0;x\x07\nb\r\u202e\x9b.png"


def unprintable(text: str) -> list[str]:
    return [char for char in text if not char.isprintable() and char != "\n"]


def test_control_bytes_of_names_and_metadata_reach_neither_terminal_nor_log(
    tmp_path: Path,
) -> None:
    import tifffile

    images = tmp_path / "in"
    images.mkdir()
    good = draw(tmp_path / "good.png", seed=1).read_bytes()
    (images / NASTY).write_bytes(good)
    (images / f"cut{NASTY}").write_bytes(good[:-30])
    (images / os.fsdecode(b"\xff\x1b.png")).write_bytes(good[:40])
    tifffile.imwrite(
        images / "ome.tif",
        np.zeros((2, 8, 8), np.uint8),
        description='<OME><Image><Pixels DimensionOrder="&#x202E;&#10;XY"><TiffData/></Pixels>'
        "</Image></OME>",
    )
    config = config_of(tmp_path, images)
    out = tmp_path / "out"
    said = [filterbank("plan", config), filterbank("run", config), filterbank("run", config)]
    said += [filterbank(*words, out) for words in (["status"], ["status", "--json"], ["verify"])]
    said += [filterbank("export", out, tmp_path / "wide.csv")]
    for one in said:
        assert unprintable(one.out + one.err) == []
    assert len(status_of(out)) == 4
    for line in (out / "log.jsonl").read_text().splitlines():
        assert unprintable(line) == []
        json.loads(line)
    for row in rows(out, "images").values():
        assert unprintable(row["image"] + (row["error"] or "") + "".join(row["files"])) == []
    assert unprintable((out / "methods.md").read_text()) == []


def test_no_text_of_a_file_leads_out_of_the_output_folder(tmp_path: Path) -> None:
    """Bands, labels, fields and DICOM texts that are paths."""
    import rasterio

    images, away = tmp_path / "in", "../../../away"
    images.mkdir()
    profile = {"driver": "GTiff", "count": 2, "height": 8, "width": 8, "dtype": "uint8"}
    place = rasterio.Affine(1, 0, 0, 0, -1, 8)
    with rasterio.open(images / "a.tif", "w", transform=place, crs="EPSG:32631", **profile) as file:
        file.write(np.random.default_rng(1).integers(0, 99, (2, 8, 8), np.uint8))
        file.descriptions = (away, "/etc/away")
    write_dicom(images / "b.dcm", PatientID=away, StudyDescription="=cmd|' /C calc'!A0")
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path / "out" not in path.parents}
    config = config_of(
        tmp_path,
        images,
        input={"include": ["{name}.*"], "metadata": ["PatientID", "StudyDescription"]},
        kept={"png": True, "geotiff": True, "stac": True},
    )
    assert filterbank("run", config).code == 0
    after = {path for path in tmp_path.parent.rglob("*") if tmp_path / "out" not in path.parents}
    assert {p.name for p in after - before} <= {"c.yaml", "out"}
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_symlink() or ".." in p.parts]
    assert rows(tmp_path / "out", "images")[("b.dcm",)]["PatientID"] == away
    assert away not in (tmp_path / "out/log.jsonl").read_text()


def write_dicom(path: Path, **texts: str) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SOPClassUID = found.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    found.Rows = found.Columns = 8
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit, found.PixelRepresentation = 7, 0
    found.PixelData = bytes(range(64))
    for keyword, text in texts.items():
        setattr(found, keyword, text)
    found.save_as(path, enforce_file_format=True)


def test_an_output_that_is_a_link_is_the_folder_it_leads_to_and_links_inside_are_replaced(
    tmp_path: Path,
) -> None:
    """Whoever may write to the output folder could also write the results themselves."""
    draw(tmp_path / "in/a.png", seed=1)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out")
    assert filterbank("run", config).code == 0
    (part,) = (tmp_path / "real/statistics").iterdir()
    data, stranger = part.read_bytes(), tmp_path / "stranger"
    stranger.write_bytes(b"not ours")
    part.unlink()
    part.symlink_to(stranger)
    assert filterbank("run", config).code == 0
    assert (part.is_symlink(), part.read_bytes()) == (False, data)
    assert stranger.read_bytes() == b"not ours"


# ---------------------------------------------------------------- our own output, damaged
def damaged_parts(folder: Path, shared: Path | None, count: int) -> Iterator[bytes]:
    """Parquet files of fuzzers, and one of ours with bytes changed, cut, and sealed by others."""
    if shared is not None:
        for path in sorted((shared / "hostile/dev/parquet").iterdir())[: count // 2]:
            yield path.read_bytes()
    (part,) = folder.iterdir()
    data, chance = part.read_bytes(), random.Random(5)
    for _ in range(count // 2):
        mutant = bytearray(data)
        for _ in range(chance.choice([1, 1, 8, 64])):
            mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
        yield bytes(mutant[: chance.choice([len(data), chance.randrange(len(data))])])
    yield b""
    stranger = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), stranger)
    yield stranger.getvalue().to_pybytes()


def test_damaged_images_parts_are_met_by_a_run_and_made_anew(shared: Path, tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    draw(images / "a.png", seed=1)
    config = write_config(tmp_path / "c.yaml", images, out, filters=["identity"])
    assert filterbank("run", config).code == 0
    wanted = tree(out)
    (part,) = (out / "images").iterdir()
    count = min(300, int(os.environ.get("FILTERBANK_MUTANTS", "12")))
    for data in damaged_parts(out / "images", shared, count):
        part.write_bytes(data)
        said = filterbank("run", config)
        assert said.code == 0, said
        assert tree(out) == wanted
