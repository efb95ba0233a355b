"""JPEG decoded where the filters are computed. No GPU here: nvImageCodec decodes on the CPU, too.

Its decoder there is libjpeg-turbo, as Pillow's, so what comes out must be the same to the bit; all
but the decoder itself is what a GPU's run does.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from command import tree
from PIL import Image
from PIL.Image import Resampling
from running import failures, look, run_bank, write_config

from pipeline.config import load
from pipeline.errors import DeviceError, MissingDependency, PlanError, ReadError
from pipeline.plan import Plan
from pipeline.readers import nvjpeg
from pipeline.readers.pillow import Jpeg
from pipeline.refusals import refuse_decoder
from pipeline.stages import decode
from pipeline.stages.read import Job, Tiles
from pipeline.workers.letters import receive, send

RGB = np.random.default_rng(5).integers(0, 256, (40, 56, 3)).astype(np.uint8)
RGB = np.repeat(np.repeat(RGB, 4, 0), 4, 1)
"""Squares of colour: interpolated chroma differs from repeated chroma at their edges."""


def write(path: Path, pixels: Any = RGB, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, "JPEG", **{"quality": 90} | options)
    return path


def turn(number: int) -> bytes:
    exif = Image.Exif()
    exif[274] = number
    return exif.tobytes()


def is_encoded(path: Path) -> bool:
    (info,) = Jpeg().probe(str(path))
    return nvjpeg.encoded(str(path), info) is not None


@pytest.fixture
def on_this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Plan, "decodes_jpeg", property(lambda plan: plan.config.input.jpeg == "nvjpeg")
    )
    monkeypatch.setattr("pipeline.survey.refuse_decoder", lambda _: None)


def test_a_run_leaves_the_bytes_of_one_that_reads_pixels(
    tmp_path: Path, on_this_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that nvJPEG is given, whichever way up, in batches of several, beside other images."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(1, 9):
        write(folder / f"turned_{number}.jpg", exif=turn(number))
    for sampling in ("4:4:4", "4:2:2", "4:2:0"):
        write(folder / f"{sampling[2:].replace(':', '')}.jpg", subsampling=sampling)
    write(folder / "gray.jpg", RGB[..., 0])
    write(folder / "progressive.jpg", progressive=True)
    Image.fromarray(RGB).save(folder / "photo.png")
    Image.fromarray(RGB).convert("CMYK").save(folder / "ink.jpg", "JPEG")
    found: dict[str, bytes] = {}
    seen: list[int] = []
    plain = decode._samples

    def counted(files: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(len(files))
        return plain(files, *arguments, **options)

    monkeypatch.setattr(decode, "_samples", counted)
    decode.check_decoder.cache_clear()
    for jpeg in ("libjpeg", "nvjpeg"):
        config = write_config(
            tmp_path / "b.yaml",
            input={"path": "in", "jpeg": jpeg},
            filters=["sobel", {"gaussian": {"sigma": 2}}],
            statistics=["mean", "p50", "entropy"],
            output={"path": "unused", "png": {"what": "both"}},
        )
        out = run_bank(config, tmp_path / jpeg, folder)
        assert not failures(out)
        found[jpeg] = out.statistics.to_pylist()
    assert sum(seen) == 4 + 13  # of the check, and all but two
    assert max(seen) > 1
    assert found["nvjpeg"] == found["libjpeg"]
    names = [tree(tmp_path / jpeg / "png").keys() for jpeg in found]
    assert names[0] == names[1]
    for name in names[0]:
        drawn = [np.asarray(Image.open(tmp_path / jpeg / "png" / name)) for jpeg in found]
        np.testing.assert_array_equal(*drawn)


def test_files_travel_from_a_reader(tmp_path: Path, on_this_cpu: None) -> None:
    """As they are, in memory that both see."""
    write(tmp_path / "a.jpg", exif=turn(6))
    config = write_config(tmp_path / "b.yaml", input={"path": "a.jpg", "jpeg": "nvjpeg"})
    found = look(config, tmp_path / "out", tmp_path / "a.jpg")
    tiles = found.plan.tiles(found.sources[0])
    loaded = Tiles(found.plan)[Job(0, tiles, found.plan.box(tiles[0]))]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, loaded)
        letter = receive(theirs)
    assert letter is not None
    got = letter.content().encoded
    assert got.files[0].numpy().tobytes() == (tmp_path / "a.jpg").read_bytes()
    values = decode.decoded(got, "cpu").values[0].numpy()
    with Jpeg().open(str(tmp_path / "a.jpg"), 0) as picture:
        np.testing.assert_array_equal(values, picture.read(got.box))


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, True),
        ({"progressive": True}, True),
        ({"keep_rgb": True}, False),
    ],
)
def test_what_both_decode_alike_is_given_to_a_gpu(
    options: dict[str, Any], given: bool, tmp_path: Path
) -> None:
    assert is_encoded(write(tmp_path / "a.jpg", **options)) is given


@pytest.mark.parametrize(("sampling", "given"), [("420", True), ("411", False), ("440", False)])
def test_chroma_that_is_interpolated_otherwise_is_not(
    sampling: str, given: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(imagecodecs.jpeg_encode(RGB, subsampling=sampling))
    assert is_encoded(path) is given


def test_what_ends_otherwise_is_read_as_ever(tmp_path: Path) -> None:
    """A file that was cut off: what a GPU's decoder would make up of the rest is not known."""
    path = write(tmp_path / "a.jpg")
    data = path.read_bytes()
    assert is_encoded(path)
    path.write_bytes(data[: len(data) * 2 // 3])
    assert not is_encoded(path)
    path.write_bytes(data + bytes(4))
    assert not is_encoded(path)


def test_damage_that_libjpeg_tells_is_told(tmp_path: Path) -> None:
    """What it refuses is not given to a GPU, or refused there as well."""
    rng = np.random.default_rng(8)
    path, refused = write(tmp_path / "a.jpg", RGB[:60, :70]), 0
    (info,) = Jpeg().probe(str(path))
    data = path.read_bytes()
    for _ in range(600):
        damaged = bytearray(data)
        for at in rng.integers(20, len(data), rng.integers(1, 4)):
            damaged[at] = rng.choice([0, 0xFF, 0xD9, 0xDA, int(rng.integers(256))])
        path.write_bytes(damaged)
        try:
            with Jpeg().open(str(path), 0):
                continue
        except ReadError:
            refused += 1
        with suppress(ReadError):
            found = nvjpeg.encoded(str(path), info)
            if found is not None:
                decode._samples([torch.from_numpy(found[0])], "cpu", gray=False)
                pytest.fail("decoded, though it is damaged")
    assert refused > 50


def test_nodata_needs_pixels(tmp_path: Path, on_this_cpu: None) -> None:
    """Who reads them says which are invalid: the rest of a run knows no value for it."""
    write(tmp_path / "a.jpg", np.where(RGB[..., 0] > 99, 255, 0).astype(np.uint8), quality=100)
    rows = {}
    for jpeg in ("libjpeg", "nvjpeg"):
        given = {"path": "a.jpg", "jpeg": jpeg, "nodata": 255}
        config = write_config(tmp_path / "b.yaml", input=given, statistics=["mean", "n_valid"])
        rows[jpeg] = run_bank(config, tmp_path / jpeg, tmp_path / "a.jpg").statistics.to_pylist()
    assert rows["nvjpeg"] == rows["libjpeg"]
    assert rows["nvjpeg"][0]["n_valid"] < RGB[..., 0].size


def test_a_file_that_is_not_decoded_fails_alone(tmp_path: Path, on_this_cpu: None) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        write(folder / f"{name}.jpg", exif=turn(1))
    data = (folder / "b.jpg").read_bytes()
    tables = data.index(b"\xff\xc4")  # of Huffman codes: lengths that no code has
    (folder / "b.jpg").write_bytes(data[: tables + 5] + b"\xff" * 16 + data[tables + 21 :])
    config = write_config(tmp_path / "b.yaml", input={"path": "in", "jpeg": "nvjpeg"})
    out = run_bank(config, tmp_path / "out", folder)
    assert list(failures(out)) == ["b.jpg"]
    assert failures(out)["b.jpg"].startswith("corrupt: damaged JPEG")
    assert set(out.statistics.column("image").to_pylist()) == {"a.jpg", "c.jpg"}


def test_a_file_is_not_blamed_for_what_libjpeg_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory may be short on a GPU, and its decoder says no more than that it failed."""

    class Failing:
        def decode(self, streams: Any, **options: Any) -> Any:
            return [None] * len(streams)

    codec, _ = decode._decoder("cpu")
    monkeypatch.setattr(decode, "_decoder", lambda _: (codec, Failing()))
    data = bytearray(write(tmp_path / "a.jpg").read_bytes())
    with pytest.raises(
        ReadError, match=r"does not decode, or .* write input.jpeg: libjpeg"
    ) as found:
        decode._samples([torch.frombuffer(data, dtype=torch.uint8)], "cpu", gray=False)
    assert found.value.kind == "unsupported"


def test_a_decoder_that_is_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one is that repeats chroma instead of interpolating it: by tens of gray levels."""
    decode.check_decoder.cache_clear()
    decode.check_decoder("cpu")
    plain = decode._samples

    def repeated(files: Any, device: str, *, gray: bool) -> Any:
        found = plain(files, device, gray=gray)
        return found if gray else [torch.roll(samples, 1, 1) for samples in found]

    monkeypatch.setattr(decode, "_samples", repeated)
    decode.check_decoder.cache_clear()
    with pytest.raises(DeviceError, match="gray levels off in a JPEG"):
        decode.check_decoder("cpu")
    decode.check_decoder.cache_clear()


def test_what_repeats_chroma_would_be_refused() -> None:
    """So the check sees the difference that it is for."""
    for subsampling in ("4:2:2", "4:2:0"):
        wanted, data = decode._example({"subsampling": subsampling}, gray=False)
        image = Image.open(BytesIO(data.numpy().tobytes()))
        y, *chroma = image.convert("YCbCr").split()
        half = image.width // 2, image.height // 2
        coarse = [c.resize(half, Resampling.BOX).resize(c.size, Resampling.NEAREST) for c in chroma]
        merged = Image.merge("YCbCr", [y, *coarse])
        off = np.abs(np.asarray(merged.convert("RGB")).astype(int) - wanted).max()
        assert off > nvjpeg.TOLERANCE


def test_a_cpu_is_refused_and_so_is_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.jpg")
    config = write_config(tmp_path / "b.yaml", input={"path": "a.jpg", "jpeg": "nvjpeg"})
    with pytest.raises(PlanError, match="this run has none; use --device cuda"):
        look(config, tmp_path / "out", tmp_path / "a.jpg")
    monkeypatch.setitem(__import__("sys").modules, "nvidia.nvimgcodec", None)
    with pytest.raises(MissingDependency, match=r"filterbank\[cuda\]"):
        refuse_decoder(Plan(load(config), "cuda"))


def test_the_choice_is_part_of_the_digest(tmp_path: Path) -> None:
    """And results that are stored keep theirs, as they were decoded by libjpeg."""
    plans = [
        Plan(load(write_config(tmp_path / "b.yaml", input={"path": ".", **jpeg})), "cuda")
        for jpeg in ({}, {"jpeg": "libjpeg"}, {"jpeg": "nvjpeg"})
    ]
    assert plans[0].digest == plans[1].digest != plans[2].digest
    assert "jpeg" not in plans[0].expanded["input"]
    assert plans[2].expanded["input"]["jpeg"] == "nvjpeg"
