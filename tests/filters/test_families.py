"""What every registered family promises."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import fields

import pytest
from pydantic import TypeAdapter, ValidationError

import pipeline.filters  # noqa: F401 - registers them
from pipeline.bank.expr import Conv, Edge, nodes_of, reach_of
from pipeline.filters.base import FILTERS, Filter
from pipeline.types import Grid

GIVEN = {
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
GRID = Grid((1.0, 1.0))


def make(name):
    return TypeAdapter(FILTERS[name]).validate_python(GIVEN[name])


def test_the_first_set_is_complete():
    assert set(GIVEN) <= set(FILTERS)


@pytest.mark.parametrize("name", GIVEN)
def test_equal_parameters_give_equal_nodes_and_hashes(name):
    first, second = make(name), make(name)
    assert isinstance(first, Filter)
    assert (first, hash(first)) == (second, hash(second))
    assert first.responses(GRID) == second.responses(GRID)


@pytest.mark.parametrize("name", GIVEN)
def test_filters_and_their_nodes_pickle(name):
    item = make(name)
    assert pickle.loads(pickle.dumps(item)) == item
    found = dict(item.responses(GRID))
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("name", GIVEN)
def test_parameters_survive_json(name):
    adapter = TypeAdapter(FILTERS[name])
    assert adapter.validate_json(adapter.dump_json(make(name))) == make(name)


@pytest.mark.parametrize("name", GIVEN)
def test_linear_parts_are_one_conv_between_edges(name):
    for node in make(name).responses(GRID).values():
        for conv in (n for n in nodes_of(node) if isinstance(n, Conv)):
            below = nodes_of(conv.of)
            assert isinstance(below[-1], Edge) or not any(isinstance(n, Conv) for n in below)
        assert len(reach_of(node, GRID.ndim)) == GRID.ndim


@pytest.mark.parametrize("name", GIVEN)
def test_unknown_parameters_are_refused(name):
    with pytest.raises(ValidationError, match="Unexpected keyword argument"):
        TypeAdapter(FILTERS[name]).validate_python(GIVEN[name] | {"stride": 2})


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


@pytest.mark.parametrize("name", GIVEN)
def test_every_parameter_and_family_is_described(name):
    cls = FILTERS[name]
    schema = TypeAdapter(cls).json_schema()
    assert schema["additionalProperties"] is False
    assert "Examples\n" in cls.__doc__
    assert {f.name for f in fields(cls)} <= set(schema.get("properties", {}))
    assert all(entry["description"] for entry in schema.get("properties", {}).values())


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
