"""Explicit weights: the sense they are applied in, layers, files, and the value they are."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy import ndimage

from pipeline.bank.expr import Input
from pipeline.errors import PlanError
from pipeline.filters.kernel import Kernel
from pipeline.filters.weights import READABLE, Weights
from pipeline.types import Grid

FLAT, VOLUME = Grid((1.0, 1.0)), Grid((1.0, 1.0, 1.0))
MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]


def numbers(*shape):
    return np.random.default_rng(3).normal(size=shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 2), (4, 3), (1, 6), (3, 2, 4), (1, 1, 1)])
@pytest.mark.parametrize("convolve", [False, True])
def test_weights_equal_scipy_for_odd_and_even_sizes(evaluate, image, shape, convolve, mode):
    oracle = ndimage.convolve if convolve else ndimage.correlate
    picture = image(*(9, 12, 11)[: len(shape)])
    item = Kernel(weights=numbers(*shape), convolve=convolve)
    got = evaluate(item.responses(Grid((1.0,) * len(shape)))[""], picture[None], mode)[0]
    np.testing.assert_allclose(got, oracle(picture, numbers(*shape), mode=mode), atol=1e-11, rtol=0)


def test_the_seed_example_is_exact(evaluate):
    square = np.zeros((5, 5))
    square[1:4, 1:4] = 1
    square[2, 2] = 0
    edge = Kernel(weights=[[-1, -1, -1], [0, 0, 0], [1, 1, 1]]).responses(FLAT)[""]
    assert evaluate(edge, square[None], "constant")[0].tolist() == [
        [1, 2, 3, 2, 1],
        [1, 1, 2, 1, 1],
        [0, 0, 0, 0, 0],
        [-1, -1, -2, -1, -1],
        [-1, -2, -3, -2, -1],
    ]


def test_a_bias_is_added(evaluate, image):
    plain, biased = (Kernel(weights=[[2.0]], bias=b).responses(FLAT)[""] for b in (None, [3]))
    picture = image(4, 5)[None]
    np.testing.assert_array_equal(evaluate(biased, picture), evaluate(plain, picture) + 3)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_weights_are_pooled_over_numpys_right_angle_turns(evaluate, image, pool):
    picture, weights = image(9, 12), numbers(3, 5)
    item = Kernel(weights=weights, bias=2, convolve=True, rotation_invariant=pool)
    got = evaluate(item.responses(FLAT)[""], picture[None])[0]
    turns = [ndimage.convolve(picture, np.rot90(weights, k)) + 2 for k in range(4)]
    np.testing.assert_allclose(got, getattr(np, pool)(turns, axis=0), atol=1e-11, rtol=0)


@pytest.mark.parametrize("grid", [FLAT, VOLUME], ids=["2-D", "3-D"])
def test_a_layer_equals_torch(evaluate, image, grid):
    weights, bias = numbers(4, 3, *(5, 3, 3)[: grid.ndim]), numbers(4)
    picture = image(3, *(9, 12, 11)[: grid.ndim])
    conv = torch.nn.functional.conv2d if grid.ndim == 2 else torch.nn.functional.conv3d
    wanted = conv(*(torch.from_numpy(a) for a in (picture[None], weights, bias)))[0].numpy()
    found = Kernel(weights=weights, bias=bias).responses(grid)
    assert list(found) == ["[1]", "[2]", "[3]", "[4]"]
    inner = tuple(
        slice(n // 2, size - n // 2)
        for n, size in zip(weights.shape[2:], picture.shape[1:], strict=True)
    )
    for node, plane in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(evaluate(node, picture)[(0, *inner)], plane, atol=1e-10)


def test_a_layer_of_one_band_takes_the_first_band():
    (node,) = Kernel(weights=numbers(1, 1, 3, 3)).responses(FLAT).values()
    assert node.of == Input(band=0)


def test_one_bias_serves_a_whole_layer():
    found = Kernel(weights=numbers(2, 3, 3, 3), bias=0.5).responses(FLAT)
    assert [node.amount for node in found.values()] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (Kernel(weights=numbers(3, 3, 3)), FLAT, r"shape \(3, 3, 3\) .*images with 2 axes; give 2"),
        (Kernel(weights=numbers(3, 3)), VOLUME, r"give 3 axes .* or 5 axes \(\[out\]\[in\]"),
        (Kernel(weights=numbers(3, 3, 3), bias=[1, 2, 3]), VOLUME, r"bias of shape \(3,\)"),
    ],
)
def test_weights_that_do_not_suit_the_rank_are_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"weights": [[1, 2], [3]]}, "rows are not equally long"),
        ({"weights": [["a"]]}, "finite real numbers in nested lists"),
        ({"weights": [[True]]}, "finite real numbers"),
        ({"weights": [[float("nan")]]}, "finite real numbers"),
        ({"weights": []}, "finite real numbers"),
        ({"weights": 3}, "1 to 5 axes"),
        ({"weights": {"shape": [2]}}, "packed weights need"),
        ({"weights": [[1]], "bias": [1, 2]}, "bias of shape .2,. does not suit"),
        ({"weights": [[1]], "stride": 2}, "Unexpected keyword argument"),
        ({}, "Field required"),
    ],
)
def test_bad_parameters_are_refused(given, text):
    with pytest.raises(ValidationError, match=text):
        TypeAdapter(Kernel).validate_python(given)


@pytest.mark.parametrize("shape", [(3, 3), (64, 3, 7, 7)], ids=["small", "first-layer"])
def test_weights_survive_json_pickle_and_hashing(shape):
    item = Kernel(weights=numbers(*shape).astype(np.float32), bias=numbers(1))
    adapter = TypeAdapter(Kernel)
    for copy in (
        adapter.validate_json(adapter.dump_json(item)),
        adapter.validate_python(adapter.dump_python(item)),
        pickle.loads(pickle.dumps(item)),
    ):
        assert copy == item
        assert hash(copy) == hash(item)
        assert str(copy.weights) == str(item.weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_weights_are_packed_exactly(dtype):
    weights = Weights.of(numbers(READABLE + 1).astype(dtype))
    assert weights.dump()["dtype"] == np.dtype(dtype).name
    assert Weights.of(weights.dump()) == weights


def test_weights_show_their_shape_and_content_in_short():
    assert str(Weights.of(0.5)) == "0.5"
    assert repr(Weights.of(numbers(64, 3, 7, 7))).startswith("Weights(64x3x7x7-")


def test_weights_beyond_float32_are_packed_in_float64():
    assert Weights.of([1e300] * (READABLE + 1)).dump()["dtype"] == "float64"


def save(folder, name, **arrays):
    """A file of weights in the format that its suffix says."""
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, *arrays.values())
    elif path.suffix in (".pt", ".pth"):
        torch.save({k: torch.as_tensor(v) for k, v in arrays.items()}, path)
    else:
        from safetensors.torch import save_file

        save_file({k: torch.as_tensor(v) for k, v in arrays.items()}, path)
    return str(path)


def load(**given):
    return TypeAdapter(Kernel).validate_python(Kernel.spread(given))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
def test_npy_weights_hold_their_values(tmp_path, dtype):
    weights = (numbers(3, 3) * 8).astype(dtype)
    assert load(file=save(tmp_path, "w.npy", w=weights)) == Kernel(weights=weights)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_and_bias_of_networks_hold_their_values(tmp_path, dtype, name):
    weights, bias = (torch.from_numpy(numbers(*s)).to(dtype) for s in ((4, 3, 3, 3), (4,)))
    file = save(tmp_path, name, **{"a.bias": bias, "a.weight": weights})
    got = load(file=file, tensor="a.weight", bias="a.bias", convolve=True)
    assert got == Kernel(
        weights=weights.double().numpy(), bias=bias.double().numpy(), convolve=True
    )


def test_equal_content_is_an_equal_filter_wherever_it_came_from(tmp_path):
    weights = numbers(2, 2)
    assert load(file=save(tmp_path, "w.npy", w=weights)) == load(weights=weights.tolist())


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("w.npy", {"tensor": "a"}, "holds one array without a name; drop tensor: 'a'"),
        ("w.npy", {"weights": [[1]]}, "give either weights or a file"),
        ("w.npy", {"bias": "b"}, "drop tensor: 'b'"),
        ("w.safetensors", {}, "needs tensor, the name of one; choose from: conv.weight"),
        ("w.pt", {}, "needs tensor, the name of one; choose from: conv.weight"),
        ("w.safetensors", {"tensor": "conv.wieght"}, "did you mean 'conv.weight'"),
        ("w.safetensors", {"tensor": ["conv.weight"]}, "file and tensor are one text each"),
    ],
)
def test_file_and_its_keys_must_agree(tmp_path, name, given, text):
    file = save(tmp_path, name, **{"conv.weight": numbers(2, 2)})
    with pytest.raises(ValueError, match=text):
        load(file=file, **given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "give either weights or a file"),
        ({"weights": [[1]], "tensor": "a"}, "name the file"),
        ({"weights": [[1]], "bias": "a"}, "name the file"),
        ({"file": "/nowhere/w.npy"}, "there is no file /nowhere/w.npy"),
        ({"file": "w.pkl"}, "w.pkl: weights come from .npy, .safetensors, .* never from pickles"),
    ],
)
def test_keys_without_their_file_are_refused(given, text):
    with pytest.raises(ValueError, match=text):
        load(**given)


@pytest.mark.parametrize("name", ["w.npy", "w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 64])
def test_damaged_files_are_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    tensor = {} if name.endswith("npy") else {"tensor": "a"}
    with pytest.raises(ValueError, match=f"{name} is not a readable"):
        load(file=str(path), **tensor)


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "w.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"not a readable .*array of numbers"):
        load(file=str(path))


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_state_dict_is_run(tmp_path, zipped):
    sprung = tmp_path / "sprung"
    content = {"a": torch.ones(2, 2), "b": Trap(str(sprung))}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"w.pt is not a readable file of tensors"):
        load(file=str(tmp_path / "w.pt"), tensor="a")
    assert not sprung.exists()


def test_tensors_of_dicts_within_dicts_have_dotted_names(tmp_path):
    weights = torch.from_numpy(numbers(2, 2))
    torch.save({"epoch": 3, "state_dict": {"a.weight": weights}}, tmp_path / "w.pt")
    found = load(file=str(tmp_path / "w.pt"), tensor="state_dict.a.weight")
    assert found == Kernel(weights=weights.numpy())


def test_tensors_numpy_has_no_type_for_are_refused(tmp_path):
    file = save(tmp_path, "w.safetensors", a=torch.ones(2).to(torch.float8_e4m3fn))
    with pytest.raises(ValueError, match=r"is not a readable .*file of numbers"):
        load(file=file, tensor="a")


def test_the_schema_lets_a_file_stand_for_weights():
    schema = TypeAdapter(Kernel).json_schema()
    assert {"file", "tensor"} <= set(schema["properties"])
    assert schema["oneOf"] == [{"required": ["weights"]}, {"required": ["file"]}]
