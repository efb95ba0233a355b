"""Bands made of bands: the grammar, the numbers, what is valid, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import failures, run_bank, write_config

from pipeline import derive
from pipeline.config import expanded, load
from pipeline.config.formulas import parse
from pipeline.derive import Derived, derived, derived_labels
from pipeline.errors import ConfigError, PlanError
from pipeline.plan import Plan

LABELS = ("red", "nir", "8")
RNG = np.random.default_rng(17)
PLANES = RNG.uniform(-3, 3, (3, 3, 5, 7))
NAMES = {"abs": np.abs, "sqrt": np.sqrt, "log": np.log, "exp": np.exp}
NAMES |= {
    "max": lambda *values: reduce(np.maximum, values),
    "min": lambda *values: reduce(np.minimum, values),
}

POWER = 1e-14  # relative: numpy has several powers, the last digit of one may be in an exponent

FORMULAS = (
    "(nir - red) / (nir + red)",
    "-red + +nir * 2 - 3",
    "red ** 2 ** -1",
    "-red ** 2",
    "2 ** red ** 3",
    "red - nir - 1 / 2 / nir",
    "1e-3 * red + .5",
    "sqrt(red) + abs(nir) - exp(red) / log(abs(nir))",
    "max(red, nir, -0.5)",
    "min(red + nir, 1)",
)


def make(*texts: str) -> tuple[Derived, ...]:
    """Bands `b0`, `b1` .. of formulas."""
    return tuple(Derived(f"b{i}", text, parse(text)) for i, text in enumerate(texts))


def add(
    texts: Sequence[str], planes: np.ndarray = PLANES, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The derived planes and where they are valid."""
    mask = None if valid is None else torch.from_numpy(valid)
    values, found, names = derived(make(*texts), torch.from_numpy(planes), mask, LABELS)
    assert found is not None
    assert names[: len(LABELS)] == LABELS
    np.testing.assert_array_equal(values[:, : len(LABELS)].numpy(), planes)
    return values[:, len(LABELS) :].numpy(), found[:, len(LABELS) :].numpy()


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_mean_what_python_and_numpy_say(text: str) -> None:
    red, nir = PLANES[:, 0], PLANES[:, 1]
    with np.errstate(all="ignore"):
        want = eval(text, {"red": red, "nir": nir, **NAMES})
    values, valid = add([text])
    np.testing.assert_array_equal(valid[:, 0], np.isfinite(want))
    np.testing.assert_allclose(values[:, 0], np.where(np.isfinite(want), want, 0), POWER)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_gpu_is_asked_for_the_same(text: str) -> None:
    """By torch, whose functions have numpy's names; here on the CPU."""
    planes = {label: torch.from_numpy(PLANES[:, i]) for i, label in enumerate(LABELS)}
    found = derive._apply(torch, parse(text), planes, planes["red"].new_tensor)
    values, valid = add([text])
    want = np.where(valid, values, np.nan)[:, 0]
    numbers = torch.where(found.abs() <= 1e38, found, torch.nan)
    np.testing.assert_allclose(numbers, want, rtol=POWER, atol=POWER)


def test_the_usual_index_is_exact() -> None:
    """One rounding per operation, as in float64 by hand."""
    values, valid = add(["(nir - red) / (nir + red)"])
    red, nir = PLANES[:, 0], PLANES[:, 1]
    np.testing.assert_array_equal(values[:, 0], (nir - red) / (nir + red))
    assert valid.all()


def test_labels_that_are_no_names_stand_in_quotes() -> None:
    values, _ = add(["'8' / \"red\""])
    np.testing.assert_array_equal(values[:, 0], PLANES[:, 2] / PLANES[:, 0])


@pytest.mark.parametrize("label", ["\u00b5m", "\u03bcm", "\ufb01t", "\uff52ed", "fit"])
def test_labels_that_look_like_others_are_what_the_text_has(label: str) -> None:
    assert Derived("b", "", parse(f"max(2,\n {label}) / '{label}'")).bands == (label,)


def test_a_formula_may_use_the_bands_before_it() -> None:
    values, _ = add(["red + nir", "b0 * b0"])
    total = PLANES[:, 0] + PLANES[:, 1]
    np.testing.assert_allclose(values[:, 1], total**2, rtol=1e-15)
    assert derived_labels(make("red + nir", "b0 * b0"), LABELS) == (*LABELS, "b0", "b1")


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("nir / red", [0.0]),
        ("(nir - nir) / red", [0.0]),
        ("log(red)", [0.0, -1.0]),
        ("sqrt(red)", [-1.0]),
        ("red ** 0.5", [-1.0]),
        ("exp(red)", [1000.0]),
        ("red * 1e30", [1e20]),
    ],
    ids=["1/0", "0/0", "log", "sqrt", "power", "exp", "beyond float32"],
)
def test_what_is_no_number_is_invalid(text: str, bad: list[float]) -> None:
    planes = np.ones((1, 3, 1, len(bad) + 1))
    planes[0, 0, 0, :-1] = bad
    values, valid = add([text], planes)
    assert valid.ravel().tolist() == [False] * len(bad) + [True]
    assert values.ravel()[:-1].tolist() == [0.0] * len(bad)


def test_a_pixel_is_valid_where_the_bands_it_is_made_of_are() -> None:
    masks = RNG.random(PLANES.shape) < 0.7
    planes = np.where(masks, PLANES, 0.0)
    _, valid = add(["red + nir", "nir * 2", "b0 + '8'"], planes, masks)
    red, nir, eight = masks.swapaxes(0, 1)
    np.testing.assert_array_equal(valid[:, 0], red & nir)
    np.testing.assert_array_equal(valid[:, 1], nir)
    np.testing.assert_array_equal(valid[:, 2], red & nir & eight)


def test_an_image_has_the_same_bits_alone_and_in_a_batch() -> None:
    planes = RNG.uniform(0.1, 9, (5, 3, 37, 211))
    texts = ["exp(red) ** nir", "log(nir) ** red / '8'", "sqrt(red)"]
    values, valid = add(texts, planes)
    for i in range(len(planes)):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            alone, mask = add(texts, planes[i : i + 1].copy())
            np.testing.assert_array_equal(alone[0], values[i])
            np.testing.assert_array_equal(mask[0], valid[i])
    torch.set_num_threads(1)


def test_volumes_are_made_alike() -> None:
    values, valid = add(["nir - red"], RNG.uniform(size=(1, 3, 2, 3, 4)))
    assert values.shape == valid.shape == (1, 1, 2, 3, 4)


def test_without_formulas_nothing_changes() -> None:
    planes = torch.from_numpy(PLANES)
    values, valid, labels = derived((), planes, None, LABELS)
    assert values is planes
    assert (valid, labels) == (None, LABELS)


def test_bands_that_are_not_there_are_refused_by_name() -> None:
    with pytest.raises(PlanError, match=r"no band 'swir', which derive.b0 needs; its bands are re"):
        derived_labels(make("red - swir"), LABELS)
    with pytest.raises(PlanError, match="no band 'b1'"):
        derived_labels(make("b1 + 1", "red"), LABELS)
    with pytest.raises(PlanError, match=r"has a band 'b0' already; give derive.b0 another name"):
        derived_labels(make("red"), ("red", "b0"))


# ---------------------------------------------------------------- the grammar
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__import__('os').system('true')", "is no part of a formula; use bands, numbers"),
        ("open('x')", "unknown function 'open'; choose from: abs, exp, log, max, min, sqrt"),
        ("red.real", "'red.real' is no part"),
        ("red[0]", "'red[0]' is no part"),
        ("lambda: red", "is no part"),
        ("red if nir else 1", "is no part"),
        ("[red for red in nir]", "is no part"),
        ("red < nir", "'red < nir' is no part"),
        ("red and nir", "is no part"),
        ("not red", "is no part"),
        ("red // nir", "is no part"),
        ("red @ nir", "is no part"),
        ("f'{red}'", "is no part"),
        ("True * red", "'True' is no part"),
        ("1j * red", "is no part"),
        ("b'red'", "is no part"),
        ("... * red", "is no part"),
        ("abs(x=red)", "is no part"),
        ("max(*red)", "is no part"),
        ("abs(red, nir)", "abs takes one value (got 2); write abs(red)"),
        ("min(red)", "min takes two values or more (got 1); write min(red, 0)"),
        ("sqr(red)", "did you mean 'sqrt'?"),
        ("1e999 * red", "too large"),
        ("9" * 400 + " * red", "too large"),
        ("red +", "is no formula"),
        ("red; nir", "is no formula"),
        ("red = nir", "is no formula"),
        ("(red", "is no formula"),
        ("red\0", "is no formula"),
        ("", "is no formula"),
        ("red" + " + red" * 200, "longer than 1000 characters"),
        ("-" * 500 + "red", "nested more than 100 deep"),
        ("not " * 240 + "red", ""),
        ("(" * 300 + "red" + ")" * 300, "is no formula"),
    ],
)
def test_what_is_not_in_the_grammar_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="; ") as caught:
        parse(text)
    assert said in str(caught.value)


def test_towers_of_powers_cost_nothing() -> None:
    """Constants are floats: nothing grows."""
    values, valid = add(["red + 9 ** 9 ** 9 ** 9", "red + 2 ** -99999"])
    assert not valid[:, 0].any()
    np.testing.assert_array_equal(values[:, 1], PLANES[:, 0])


# ---------------------------------------------------------------- the config
def test_a_config_holds_its_formulas_and_the_digest_covers_them(tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.yaml")
    plain = load(path)
    text = "derive: {ndvi: '(nir - red)  / (nir + red)', half: ndvi / 2}"
    path.write_text(f"{path.read_text()}{text}\n")
    config = load(path)
    assert [band.label for band in config.derive] == ["ndvi", "half"]
    assert config.derive[0].bands == ("nir", "red")
    assert pickle.loads(pickle.dumps(config)) == config
    told = {"ndvi": "(nir - red) / (nir + red)", "half": "ndvi / 2"}
    assert list(expanded(config)["derive"].items()) == list(told.items())
    assert (plain.derive, expanded(plain)["derive"]) == ((), {})
    turned = "derive: {half: nir / 2, ndvi: '(nir - red) / (nir + red)'}"
    path.write_text(f"{write_config(path).read_text()}{turned}\n")
    before = Plan(load(path), "cpu").digest
    turned = "derive: {ndvi: '(nir - red) / (nir + red)', half: nir / 2}"
    path.write_text(f"{write_config(path).read_text()}{turned}\n")
    assert Plan(load(path), "cpu").digest != before, "the order of bands is that of joint filters"


def test_every_problem_is_said_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "version: 1\ninput: {path: .}\nderive:\n  all: red\n  '4': red\n  a: sin(red)\n  b: 3\n"
        "  c: 1 + 2\n  ' d': red\nfilters: [sobel]\noutput: {path: out}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    said = [problem.removeprefix(f"{path}:") for problem in caught.value.problems]
    assert [line.partition(": ")[0] for line in said] == [
        *("4:3", "5:3", "6:6", "7:6", "8:6", "9:3")
    ]
    assert said[0] == (
        "4:3: derive.all: 'all' stands for other bands already; give the band another name"
    )
    assert "derive.4: '4' stands for other bands" in said[1]
    assert said[2] == "6:6: derive.a: unknown function 'sin'; did you mean 'min'?"
    assert "derive.b: must be a formula in quotes (got 3); use bands" in said[3]
    assert "derive.c: '1 + 2' names no band; write a band's label" in said[4]
    assert "derive: a band's name must be printable text without blanks" in said[5]
    path.write_text(path.read_text().replace("derive:\n", "derive: [ndvi]\nx:\n"))
    with pytest.raises(ConfigError, match=r"3:9: derive: must be a mapping \(got \['ndvi'\]\)"):
        load(path)


# ---------------------------------------------------------------- whole runs
def test_derived_bands_are_filtered_like_others_and_named_in_every_table(tmp_path: Path) -> None:
    """An image that lacks what a formula needs is a failed row."""
    rng = np.random.default_rng(23)
    colours = rng.integers(0, 9, (6, 7, 3), dtype=np.uint8)  # with pixels of 0 / 0
    (tmp_path / "in").mkdir()
    Image.fromarray(colours).save(tmp_path / "in/a.png")
    Image.fromarray(colours[..., 0]).save(tmp_path / "in/gray.png")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"version: 1\ninput: {{path: {tmp_path / 'in'}, bands: [blue, red]}}\n"
        "prepare: [{rescale: {from: [0, 255]}}]\n"
        "derive: {index: (blue - red) / (blue + red)}\n"
        "filters: [identity, {mean: {size: 3, bands: [index, 1], boundary: nearest}}]\n"
        "statistics: [mean, min]\noutput: {path: unused, maps: float32}\n"
    )
    output = run_bank(path, tmp_path / "out")
    assert failures(output) == {"gray.png": "unsupported: has no band 'blue'; its bands are 1"}
    rows = {(row["filter"], row["band"]): row for row in output.statistics.to_pylist()}
    mean = "mean(size=3,bands=index+1,boundary=nearest)"  # numbers count the file's bands
    assert sorted(rows) == [
        *(("identity", band) for band in ("blue", "index", "red")),
        *((mean, band) for band in ("index", "red")),
    ]
    red, _, blue = np.moveaxis(colours / 255, 2, 0)
    with np.errstate(invalid="ignore"):
        index = (blue - red) / (blue + red)
    found = output.maps("a.png", "identity", "index")
    np.testing.assert_allclose(found, index, rtol=1e-6, atol=1e-7)
    assert np.isnan(found).any()
    row = rows["identity", "index"]
    assert row["n_valid"] == np.isfinite(index).sum()
    assert row["mean"] == pytest.approx(np.nanmean(index), rel=1e-6)
