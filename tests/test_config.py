"""The config language: what it accepts, what it says about what it does not.

Bad files are golden: `tests/golden/config/<case>.yaml` is the file and, after `# output`, every
line of the error. `python tests/test_config.py` writes the errors anew; review the difference.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.boundary import Boundary
from pipeline.config import (
    Config,
    Png,
    describe,
    expanded,
    load,
    matches,
    response_id,
    schema,
)
from pipeline.config.outputs import GeoTiffs, Niftis
from pipeline.config.parse import parse
from pipeline.errors import ConfigError
from pipeline.filters.base import FILTERS
from pipeline.statistics import COLUMNS

GOLDEN = Path(__file__).parent / "golden" / "config"
MARK = "# output\n"
HEAD = "version: 1\ninput: {path: in}\noutput: {path: out}\n"
Load = Callable[..., Config]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a config from text, written to `edges.yaml` in the working directory."""
    monkeypatch.chdir(tmp_path)

    def from_text(text: str, **overrides: Any) -> Config:
        Path("edges.yaml").write_text(text, encoding="utf-8")
        given = {key.replace("__", "."): value for key, value in overrides.items()}
        return load(Path("edges.yaml"), given)

    return from_text


def problems_of(text: str) -> str:
    """Every line of the error that a file named edges.yaml raises."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("edges.yaml").write_text(text, encoding="utf-8")
            load(Path("edges.yaml"))
        except ConfigError as error:
            return "".join(f"# {line}\n" for line in error.problems)
        finally:
            os.chdir(before)
    return "# is accepted\n"


# Bad files


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_bad_file_is_told_all_its_problems_with_their_lines(case: Path) -> None:
    text, mark, wanted = case.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"{case.name} has no '# output'"
    assert wanted, f"{case.name} has no expected errors: run python tests/test_config.py"
    assert problems_of(text) == wanted


def test_there_are_golden_cases() -> None:
    assert len(list(GOLDEN.glob("*.yaml"))) > 40


def bomb(levels: int) -> str:
    names = "abcdefghijklmnopqrstuvwxyz"[: levels + 1]
    rows = (f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise(names))
    return "a: &a [1]\n" + "".join(rows)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 3_000 + "]" * 3_000, r"1:34: is nested more than 32 levels deep"),
        ("\n".join("[" * 3_000), r"is nested more than 32 levels deep"),
        ("- " * 3_000, r"is nested more than 32 levels deep"),
        ("{a: " * 3_000, r"is nested more than 32 levels deep"),
        ("? " * 3_000, r"a key must be a plain word"),
        (bomb(20), r"holds more than 50,000 values; put large weights into a .npy file"),
        (f"a: [{'0, ' * 300_000}]", r"holds more than 50,000 values"),
        (f"a: {'x' * (1 << 20)}", r"is larger than 1 MiB"),
        (HEAD + f"filters: [{'sobl, ' * 15_000}]", r"fix these first"),
    ],
    ids=["brackets", "lines", "dashes", "braces", "keys", "aliases", "values", "bytes", "words"],
)
def test_a_hostile_file_is_refused_within_a_second(loaded: Load, text: str, says: str) -> None:
    start = time.process_time()
    with pytest.raises(ConfigError, match=says):
        loaded(text)
    assert time.process_time() - start < 1


def test_what_is_no_utf8_text_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(HEAD.encode() + "filters: [sobel] # Stra\xdfe\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml:4:24: is not UTF-8 text; save the file as"):
        load(path)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: cannot be read: No such file or directory"):
        load(tmp_path / "none.yaml")


# Good files

EXAMPLE = """\
version: 1
input: {path: data/samples, include: ["*.png"], bands: all}
prepare: [{rescale: {from: dtype, to: [0, 1]}}]
boundary: reflect
filters:
  - kernel: {name: horizontal_edge, weights: [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]}
  - sobel
  - log: {sigma: [1, 2, 4]}
  - gabor: {wavelength: [4, 8], orientations: 4, output: magnitude}
  - laws: {kernels: [L5E5, S5S5], rotation_invariant: max, energy: 7}
statistics: [mean, std, p10, p50, p90, energy]
output: {path: out/edges, maps: float32, png: true}
run: {device: auto, workers: auto, batch: auto, memory: auto}
"""


def names(config: Config) -> list[str]:
    return [named.name for named in config.filters]


def test_the_example_of_the_design_gives_readable_names(loaded: Load) -> None:
    assert names(loaded(EXAMPLE)) == [
        "horizontal_edge",
        "sobel",
        *(f"log(sigma={sigma})" for sigma in (1, 2, 4)),
        *(f"gabor(wavelength={w},orientation={o})" for w in (4, 8) for o in (0, 45, 90, 135)),
        "laws(kernels=L5E5,rotation_invariant=max,energy=7)",
        "laws(kernels=S5S5,rotation_invariant=max,energy=7)",
    ]


def test_the_least_config_has_every_default(loaded: Load) -> None:
    config = loaded("version: 1\ninput: {path: in}\noutput: {path: out}\nfilters: [sobel]")
    assert (config.input.path, config.input.include, config.input.bands) == (("in",), None, "all")
    assert (config.boundary, config.prepare) == ("auto", ())
    assert config.statistics == tuple(COLUMNS)
    assert (config.output.maps, config.output.png) == ("none", None)
    assert (config.limits.pixels, config.limits.bytes) == (250_000_000, 4 << 30)
    assert (config.run.device, config.run.workers, config.run.max_attempts) == ("auto", "auto", 3)


def test_every_value_has_its_type(loaded: Load) -> None:
    config = loaded(
        """\
version: 1
input:
  path: [a, 'b/*.png']
  exclude: ["*.tmp"]
  bands: [B04, 1]
  nodata: -1e4
  pages: volume
  spacing: [2.5, 1, 1]
  unit: mm
  min_age: 1.5h
boundary: {constant: 5}
filters: [sobel: {bands: [2], boundary: {constant: 1}, rank: 2}]
statistics: [n_valid, p99, basic, mean]
output:
  path: out/{digest}
  maps: float16
  png: {depth: 16, range: {"log(*": [-1, 1], sobel: [0, 1e2]}, filters: ["log*"], sample: 3}
limits: {pixels: 1e9, bytes: 1.5GiB}
run: {device: cuda, workers: 0, threads: 2, batch: 8, memory: 4GiB, max_failed: 10%}
"""
    )
    assert config.input.path == ("a", "b/*.png")
    assert config.input.bands == ("B04", 1)
    assert (config.input.nodata, config.input.min_age) == (-10_000.0, 5400.0)
    assert config.input.spacing == (2.5, 1.0, 1.0)
    assert config.boundary == Boundary("constant", 5.0)
    assert config.statistics == ("mean", "std", "min", "max", "p99")
    assert config.limits.pixels == 10**9
    assert config.limits.bytes == 3 << 29
    assert (config.run.workers, config.run.memory, config.run.max_failed) == (0, 4 << 30, "10%")
    assert config.run.failures_allowed(250) == 25
    (sobel,) = config.filters
    assert (sobel.bands, sobel.boundary, sobel.rank) == ((2,), Boundary("constant", 1.0), 2)
    assert sobel.name == "sobel(rank=2,bands=2,boundary=constant:1)"
    png = config.output.png
    assert png is not None
    assert png.range_of("log(sigma=2)") == (-1, 1)
    assert png.range_of("sobel") == (0, 100)
    assert png.range_of("mean") is None


@pytest.mark.parametrize(
    ("png", "value"),
    [("true", Png()), ("false", None), ("null", None), ("{depth: 16}", Png(depth=16))],
)
def test_previews_are_all_none_or_chosen(loaded: Load, png: str, value: Png | None) -> None:
    config = loaded(HEAD.replace("path: out", f"path: out, png: {png}") + "filters: [sobel]")
    assert config.output.png == value


@pytest.mark.parametrize(
    ("keys", "geotiff", "nifti"),
    [
        ("", None, None),
        ("geotiff: true, nifti: false", GeoTiffs(), None),
        ("nifti: {filters: ['log*']}", None, Niftis(("log*",))),
        ("geotiff: {dtype: float16}, nifti: true", GeoTiffs(dtype="float16"), Niftis()),
    ],
)
def test_maps_become_files_of_other_formats_where_asked_for(
    loaded: Load, keys: str, geotiff: GeoTiffs | None, nifti: Niftis | None
) -> None:
    config = loaded(HEAD.replace("path: out", f"path: out, {keys}") + "filters: [sobel]")
    assert (config.output.geotiff, config.output.nifti) == (geotiff, nifti)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000),
        ("1e-4", 0.0001),
        ("-0.5E+1", -5),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-.Inf", -inf),
        ("~", None),
        ("TRUE", True),
        ("NO", "NO"),
        ("on", "on"),
        ("yes", "yes"),
        ("190:20:30", "190:20:30"),
        ("1_000", "1_000"),
        ("2021-01-01", "2021-01-01"),
        ("'1'", "1"),
        ("9" * 5000, inf),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    node, problems = parse(f"[{text}]", "x.yaml")
    assert (node.plain, problems) == ([value], ())
    assert type(node.plain[0]) is type(value)


def test_small_anchors_are_fine(loaded: Load) -> None:
    config = loaded(HEAD + "filters:\n  - log: {sigma: &s [1, 2]}\n  - gaussian: {sigma: *s}\n")
    assert names(config) == [
        "log(sigma=1)",
        "log(sigma=2)",
        "gaussian(sigma=1)",
        "gaussian(sigma=2)",
    ]


# Sweeps and names


@given(
    sigma=st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True),
    truncate=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    scalar=st.booleans(),
)
def test_a_sweep_is_the_product_of_its_lists(
    sigma: list[int], truncate: list[int], scalar: bool
) -> None:
    given_ = {"sigma": sigma[0] if scalar else sigma, "truncate": truncate}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(HEAD + f"filters: [log: {json.dumps(given_)}]")
        filters = load(path).filters
    assert len(filters) == prod((1 if scalar else len(sigma), len(truncate)))
    assert len({named.name for named in filters}) == len(filters)
    assert (
        [(n.filter.sigma, n.filter.truncate) for n in filters]
        == [  # type: ignore[attr-defined]
            (s, t) for s in (sigma[:1] if scalar else sigma) for t in truncate
        ]
    )


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("sobel", ["sobel"]),
        ("sobel: {output: [y, x]}", ["sobel(output=y)", "sobel(output=x)"]),
        ("sobel: {output: magnitude}", ["sobel"]),
        ("sobel: {output: [magnitude]}", ["sobel"]),
        ("sobel: {output: [magnitude, x]}", ["sobel(output=magnitude)", "sobel(output=x)"]),
        ("log: {sigma: 0.5}", ["log(sigma=0.5)"]),
        ("log: {truncate: 3, sigma: 1e-5}", ["log(sigma=1e-05,truncate=3)"]),
        ("log: {truncate: [3], sigma: 1e-5}", ["log(sigma=1e-05,truncate=3)"]),
        ("log: {truncate: [3, 5], sigma: 1}",
         ["log(truncate=3,sigma=1)", "log(truncate=5,sigma=1)"]),
        ("log: {sigma: 1, scale_normalized: true}", ["log(sigma=1,scale_normalized=true)"]),
        ("log: {sigma: [1, 2], name: blobs}", ["blobs(sigma=1)", "blobs(sigma=2)"]),
        ("log: {sigma: [3], truncate: 2, rank: 2, name: blobs}", ["blobs"]),
        ("gabor: {wavelength: 4, orientations: 1}", ["gabor(wavelength=4)"]),
        ("sobel: {rank: 2, bands: [1, nir]}", ["sobel(rank=2,bands=1+nir)"]),
        ("sobel: {boundary: wrap}", ["sobel(boundary=wrap)"]),
        ("kernel: {name: k, weights: [[1]], convolve: [true, false]}",
         ["k(convolve=true)", "k(convolve=false)"]),
    ],
)  # fmt: skip
def test_names_list_what_was_swept_then_what_is_off_its_default(
    loaded: Load, entry: str, wanted: list[str]
) -> None:
    assert names(loaded(HEAD + f"filters:\n  - {entry}")) == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gabor(wavelength=4,orientation=45)", "gabor_wavelength_4_orientation_45"),
        ("gabor(orientation=-22.5)", "gabor_orientation_m22p5"),
        ("log(sigma=1e-05)", "log_sigma_1em05"),
        ("sobel(bands=1+3)", "sobel_bands_1_3"),
        ("conv1[12]", "conv1_12"),
        ("my-filter.v2", "my_filter_v2"),
        ("Größe 2", "grosse_2"),
        ("3x3", "f_3x3"),
    ],
)
def test_ids_are_safe_and_readable(name: str, wanted: str) -> None:
    assert response_id(name) == wanted


@given(st.text(min_size=1))
def test_every_name_has_a_safe_id(name: str) -> None:
    assert response_id(name).isascii()
    assert response_id(name).isidentifier()
    assert response_id(name) == response_id(name).lower()


def test_globs_also_match_a_name_literally() -> None:
    assert matches("conv[1]", ["conv[1]"])
    assert not matches("log(sigma=2)", ["sobel", "gabor*"])


# Other files


def test_weights_and_banks_are_relative_to_the_file_that_names_them(
    loaded: Load, tmp_path: Path
) -> None:
    (tmp_path / "banks").mkdir()
    np.save(tmp_path / "banks" / "w.npy", np.eye(3))
    bank = "version: 1\nfilters:\n  - kernel: {name: eye, file: w.npy}\n  - log: {sigma: [1, 2]}\n"
    (tmp_path / "banks" / "few.yaml").write_text(bank)
    config = loaded(HEAD + "filters: [sobel, bank: banks/few.yaml]")
    assert names(config) == ["sobel", "eye", "log(sigma=1)", "log(sigma=2)"]
    assert config.filters[1].filter == FILTERS["kernel"](weights=np.eye(3))  # type: ignore[call-arg]
    assert config.filters[1].line == "banks/few.yaml:3:5: filters[0]"


def test_a_bank_file_holds_filters_only_and_no_bank(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        "boundary: wrap\nfilters:\n  - bank: b.yaml\n  - log\n  - sobel: {normalize: 1}\n"
    )
    with pytest.raises(ConfigError) as caught:
        loaded(HEAD + "filters:\n  - sobl\n  - bank: b.yaml")
    assert caught.value.problems == (
        "edges.yaml:5:5: filters[0]: unknown filter 'sobl'; did you mean 'sobel'?",
        "b.yaml:1:1: boundary: unknown key; choose from: filters, version",
        "b.yaml:1:1: version: is missing; add 'version: 1' as the first line",
        "b.yaml:3:5: filters[0]: a bank file cannot hold another bank; write its filters out",
        "b.yaml:4:5: filters[1].log.sigma: is missing; add 'sigma: ...'",
        "b.yaml:5:24: filters[2].sobel.normalize: must be true or false (got 1)",
    )


def test_a_name_taken_in_another_file_is_told_with_that_file(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("version: 1\nfilters: [sobel]\n")
    says = r"^b.yaml:2:11: filters\[0\]: the name 'sobel' is taken by edges.yaml:4:11: filters\[0\]"
    with pytest.raises(ConfigError, match=says):
        loaded(HEAD + "filters: [sobel, bank: b.yaml]")


def test_a_bank_that_stands_twice_is_told_where_it_does(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("version: 1\nfilters: [sobel]\n")
    says = r"^edges.yaml:4:\d+: filters\[2\].bank: './b.yaml' is the bank of filters\[0\] already"
    with pytest.raises(ConfigError, match=says):
        loaded(HEAD + "filters: [bank: b.yaml, log: {sigma: 2}, bank: ./b.yaml]")


# The command line


def test_flags_replace_values_and_are_read_like_them(loaded: Load) -> None:
    config = loaded(
        "version: 1\nfilters: [sobel]\nrun: {workers: 8, batch: 2}",
        input__path=("12", "b"),
        output__path="somewhere",
        run__workers="3",
        run__max_failed="5%",
        limits__bytes="1MiB",
        run__device=None,
    )
    assert (config.input.path, config.output.path) == (("12", "b"), "somewhere")
    assert (config.run.workers, config.run.batch, config.run.device) == (3, 2, "auto")
    assert (config.run.max_failed, config.limits.bytes) == ("5%", 1 << 20)


def test_problems_with_flags_name_the_flag(loaded: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(
            "version: 1\ninput: {bands: 3}\nfilters: [sobel]",
            input__path="",
            output__path="{x}",
            run__device="gpu",
            run__batch="0",
        )
    assert caught.value.problems == (
        "--input: must be a path or a list of paths (got ''); write 'data/samples'",
        "--output: holds '{x}'; only {digest} stands for something here",
        "--device: must be 'auto', 'cpu' or 'cuda' (got 'gpu'); did you mean 'cpu'?",
        "--batch: must be 'auto' or at least 1 (got 0)",
        "edges.yaml:2:16: input.bands: must be 'all' or 'luminance' or a list (got 3)",
    )


# What a config is


def test_a_config_survives_pickling(loaded: Load) -> None:
    config = loaded(EXAMPLE)
    assert pickle.loads(pickle.dumps(config)) == config


def test_where_a_filter_stands_is_no_part_of_it(loaded: Load) -> None:
    moved = EXAMPLE.replace("filters:\n", "filters:\n\n  # a comment\n")
    assert loaded(moved) == loaded(EXAMPLE)
    assert loaded(moved).filters[0].line != loaded(EXAMPLE).filters[0].line


def test_where_results_go_decides_nothing(loaded: Load) -> None:
    config = loaded(EXAMPLE)
    moved = replace(
        config,
        input=replace(config.input, path=("else",), include=None, exclude=("x",), min_age=9.0),
        output=replace(config.output, path="elsewhere"),
        run=replace(config.run, device="cpu"),
        limits=replace(config.limits, pixels=1),
    )
    assert expanded(moved) == expanded(config)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bands: all", "bands: luminance"),
        ("bands: all", "nodata: .nan"),
        ("to: [0, 1]", "to: [0, 2]"),
        ("boundary: reflect", "boundary: {constant: 2}"),
        ("sigma: [1, 2, 4]", "sigma: [1, 2]"),
        ("[0, 0, 0]", "[0, 1, 0]"),
        ("- sobel", "- sobel: {rank: 2}"),
        ("p90", "p95"),
        ("float32", "float16"),
        ("png: true", "png: {depth: 16}"),
    ],
)
def test_everything_that_decides_results_is_in_the_expanded_config(
    loaded: Load, old: str, new: str
) -> None:
    assert old in EXAMPLE
    ours, theirs = (expanded(loaded(text)) for text in (EXAMPLE, EXAMPLE.replace(old, new, 1)))
    assert ours != theirs
    assert json.loads(json.dumps(theirs, allow_nan=False)) == theirs


def test_large_weights_stand_as_their_hash(loaded: Load, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.arange(1024.0).reshape(32, 32))
    text = HEAD + "filters: [kernel: {name: k, file: w.npy}]"
    first = expanded(loaded(text))["filters"][0]["parameters"]["weights"]
    assert first["shape"] == [32, 32]
    np.save(tmp_path / "w.npy", np.arange(1024.0).reshape(32, 32).T)
    assert expanded(loaded(text))["filters"][0]["parameters"]["weights"] != first


# What is said about the language


def test_the_schema_is_json_and_names_every_word() -> None:
    whole = schema()
    assert json.loads(json.dumps(whole)) == whole
    assert "$ref" not in json.dumps(whole)
    entry = whole["properties"]["filters"]["items"]["anyOf"][1]["properties"]
    assert {*FILTERS, "bank"} == set(entry)
    sigma = entry["log"]["properties"]["sigma"]["anyOf"]
    assert [one["type"] for one in sigma] == ["number", "array"]
    assert entry["kernel"]["required"] == ["name"]
    assert (
        "orientations" in entry["gabor"]["anyOf"][0]["properties"]
        if "anyOf" in entry["gabor"]
        else "orientations" in entry["gabor"]["properties"]
    )
    assert set(COLUMNS) < set(whole["properties"]["statistics"]["items"]["enum"])


@pytest.mark.parametrize("kind", ["filters", "statistics", "steps", "readers"])
def test_descriptions_are_rows_of_text(kind: Any) -> None:
    rows = describe(kind)
    assert rows
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    assert all(isinstance(value, str) for row in rows for value in row.values())


def test_every_parameter_is_described() -> None:
    for row in [*describe("filters"), *describe("steps")]:
        assert row["description"], row
        assert not row["parameter"] or row["type"] != "value", row


def test_the_language_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "edges.yaml").write_text(EXAMPLE)
    code = (
        "import sys, pathlib; from pipeline.config import *;"
        "expanded(load(pathlib.Path('edges.yaml'))); schema(); describe('filters');"
        "print(sorted({'torch', 'pyarrow', 'PIL', 'click', 'tifffile'} & set(sys.modules)))"
    )
    root = str(Path(__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "[]\n"


def regenerate() -> None:
    """Write the golden errors anew."""
    for path in GOLDEN.glob("*.yaml"):
        text = path.read_text(encoding="utf-8").partition(MARK)[0]
        path.write_text(text + MARK + problems_of(text), encoding="utf-8")


if __name__ == "__main__":
    regenerate()
