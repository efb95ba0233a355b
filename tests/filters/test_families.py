"""What every registered family promises."""

from __future__ import annotations

import doctest
import inspect
import pickle
import re
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import TypeAdapter, ValidationError
from running import write_config

import pipeline.filters
from pipeline.bank.expr import Conv, Edge, Input, Kernel, nodes_of, reach_of, separable
from pipeline.config import load
from pipeline.config.words import lengths
from pipeline.errors import ConfigError
from pipeline.filters.base import FILTERS, Filter
from pipeline.filters.othernames import SAME, SORTED
from pipeline.types import Grid

SPECIAL = {
    "kernel": {"weights": [[1, 2, 3]], "bias": 0.5},
    "sobel": {},
    "prewitt": {"output": "y"},
    "scharr": {"output": "orientation", "normalize": True},
    "laplacian": {"neighbours": 8},
    "gaussian": {"sigma": 1.5, "order": 1, "axis": "x"},
    "log": {"sigma": 2},
    "gabor": {"wavelength": 4, "orientation": 22.5},
    "mean": {"size": 4},
    "laws": {"kernels": "L5E5", "rotation_invariant": "max", "energy": 7},
    "random": {"count": 3, "size": 5, "channels": 3},
    "identity": {},
    "wavelet": {"wavelet": "db2", "level": 2, "rotation_invariant": "mean"},
    "simoncelli": {"level": 2, "grid": "dft", "pad": 0.5},
    "riesz": {"order": "xy", "sigma": 2, "tensor_sigma": 1},
    "monogenic": {"output": "phase"},
    "hessian": {"sigma": 1, "output": "eigenvalue_1", "order": "magnitude"},
    "structure_tensor": {"sigma": 1, "rho": 2, "output": "coherence"},
    "frangi": {"gamma": 15, "sigmas": [1, 2]},
    "sato": {"sigmas": [1.5]},
    "meijering": {"ridges": "white"},
    "local_binary_pattern": {"method": "ror"},
}
"""Parameters that are tried besides a family's examples: special cases."""

GRID = Grid((1.0, 1.0))


@cache
def items_of(name):
    """The filters that a family's examples stand for, and its special case."""
    with TemporaryDirectory() as folder:
        filters = [{name: given} for given in FILTERS[name].examples]
        config = load(write_config(Path(folder) / "c.yaml", filters=filters))
    special = TypeAdapter(FILTERS[name]).validate_python(SPECIAL[name]) if name in SPECIAL else None
    return [*(named.filter for named in config.filters), *([special] if special else [])]


@pytest.fixture(params=sorted(FILTERS))
def name(request):
    return request.param


@pytest.fixture
def items(name):
    return items_of(name)


def again(name, item):
    adapter = TypeAdapter(FILTERS[name])
    return adapter.validate_json(adapter.dump_json(item))


def test_every_file_has_its_line_in_the_package():
    """A file without one registers nothing, and the tests of every family know nothing of it."""
    folder = Path(pipeline.filters.__file__).parent
    lines = (folder / "__init__.py").read_text()
    for file in folder.glob("*.py"):
        for name in re.findall(r'^@FILTERS\.register\("(\w+)"\)', file.read_text(), re.MULTILINE):
            line = f"from pipeline.filters import {file.stem} as {file.stem}\n"
            assert line in lines, f"{name}: pipeline/filters/__init__.py lacks: {line}"


def test_equal_parameters_give_equal_nodes_and_hashes(name, items):
    assert items, "a family needs an example"
    for item in items:
        other = again(name, item)
        assert isinstance(item, Filter)
        assert (item, hash(item)) == (other, hash(other))
        assert item.responses(GRID) == other.responses(GRID)


def test_filters_and_their_nodes_pickle(items):
    for item in items:
        assert pickle.loads(pickle.dumps(item)) == item
        found = dict(item.responses(GRID))
        assert pickle.loads(pickle.dumps(found)) == found


def test_parameters_survive_json(name, items):
    assert [again(name, item) for item in items] == items


def test_linear_parts_are_one_conv_between_edges(items):
    for node in (node for item in items for node in item.responses(GRID).values()):
        for conv in (n for n in nodes_of(node) if isinstance(n, Conv)):
            below = nodes_of(conv.of)
            assert isinstance(below[-1], Edge) or not any(isinstance(n, Conv) for n in below)
        assert len(reach_of(node, GRID.ndim)) == GRID.ndim


def test_what_depends_on_the_spacing_is_described_as_a_length(items):
    """What has none refuses `units: physical`."""
    for item in items:
        fine = item.responses(Grid((0.5, 0.5), "mm"))
        has_length = any(getattr(item, field) is not None for field in lengths(type(item)))
        assert (fine != item.responses(GRID)) == has_length


def test_unknown_parameters_are_refused(name, items):
    adapter = TypeAdapter(FILTERS[name])
    with pytest.raises(ValidationError, match="Unexpected keyword argument"):
        adapter.validate_python(adapter.dump_python(items[0]) | {"stride": 2})


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("gaussian", {"sigma": 0}, "greater than 0"),
        ("gaussian", {"sigma": float("inf")}, "finite number"),
        ("log", {"sigma": -1}, "greater than 0"),
        ("mean", {"size": 0}, "greater than or equal to 1"),
        ("mean", {"size": 2.5}, "valid integer"),
        ("laplacian", {"neighbours": 5}, "Input should be 2, 4, 6, 8, 18 or 26"),
        ("sobel", {"output": "w"}, "Input should be 'y', 'x', 'z', 'magnitude' or 'orientation'"),
        ("random", {"count": 1, "size": 3, "seed": 2**32}, "less than 4294967296"),
        ("gabor", {"wavelength": 4, "gamma": 0}, "greater than or equal to 0.01"),
    ],
)
def test_values_out_of_range_are_refused(name, given, text):
    with pytest.raises(ValidationError, match=text):
        TypeAdapter(FILTERS[name]).validate_python(given)


def test_every_parameter_and_family_is_described(name):
    cls = FILTERS[name]
    schema = TypeAdapter(cls).json_schema()
    assert schema["additionalProperties"] is False
    assert {f.name for f in fields(cls)} <= set(schema.get("properties", {}))
    for parameter, entry in schema.get("properties", {}).items():
        assert entry.get("description"), f"{name}: {parameter} has no description"


def test_every_family_names_its_source_and_shows_an_example(name):
    """In the docstring of the class: the reference page and methods.md take no other."""
    cls = FILTERS[name]
    prose, *sections = re.split(r"\n\n(?=\w+\n---)", inspect.getdoc(cls))
    found = {part.split("\n")[0]: part.split("\n", 2)[2] for part in sections}
    assert list(found) == ["References", "Examples"], f"{name}: References, then Examples"
    assert "Source:" not in prose, f"{name}: its source belongs under References"
    assert found["References"].strip()
    assert doctest.DocTestParser().get_examples(found["Examples"])  # pytest runs those of modules


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("box", "did you mean 'mean'"),
        ("high_boost", "did you mean 'unsharp'"),
        ("Vesselness", "did you mean 'frangi'"),
        ("median", "it is no linear filter, and none here is like it"),
        ("gabr", "did you mean 'gabor'"),
    ],
)
def test_words_of_others_are_answered_with_ours(word, text, tmp_path):
    with pytest.raises(ConfigError, match=f"unknown filter '{word}'; {text}"):
        load(write_config(tmp_path / "c.yaml", filters=[word]))


def test_words_of_others_name_families_and_are_none():
    assert set(SAME.values()) <= set(FILTERS)
    assert not {*SAME, *SORTED} & {name.replace("_", "") for name in FILTERS}


def test_a_conv_refuses_what_is_no_kernel():
    with pytest.raises(TypeError, match=r"got Conv; separable\(\) makes a whole Conv"):
        Conv(Input(), separable([[1, 2, 1]]))
    with pytest.raises(TypeError, match=r"got list\); write Kernel.of\(weights\)"):
        Conv(Input(), [1, 2, 1])
    assert Conv(Input(), Kernel.of([1, 2, 1])) == separable([[1, 2, 1]])


def test_building_expressions_needs_no_torch():
    code = (
        "import sys; from pipeline.types import Grid; import pipeline.filters;"
        "from pipeline.filters.base import FILTERS as F;"
        "F['random'](count=2, size=3).responses(Grid((1.0, 1.0)));"
        "print([m for m in ('torch', 'scipy', 'safetensors', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
