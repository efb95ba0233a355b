"""What every filter family must do, found in the registry."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from reference import tolerance
from running import write_config

from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import BankPlan, compile_bank
from pipeline.bank.expr import Node, Spectrum, bands_of, nodes_of, reach_of
from pipeline.bank.passes import lift
from pipeline.boundary import MODES, Boundary
from pipeline.config import expanded, load
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS
from pipeline.plan import Plan
from pipeline.types import Batch, Grid, ImageInfo, Region, Response, Source, Tile

ROOT = Path(__file__).resolve().parents[2]
LOPSIDED = [[1.0, -2.0], [0.5, 4.0], [3.0, -1.0]]
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "identity": [{}],
    "sobel": [
        {"output": ["y", "x", "magnitude", "orientation"]},
        {"size": [5, 7], "output": "x", "rotation_invariant": "max"},
    ],
    "prewitt": [{"output": "magnitude", "normalize": True}, {"size": 5, "output": "y"}],
    "scharr": [{"output": "x"}],
    "farid": [{"size": [3, 7]}, {"output": ["xx", "xy"], "normalize": True}],
    "roberts": [
        {"output": ["diagonal", "antidiagonal", "magnitude"]},
        {"output": "diagonal", "rotation_invariant": "mean"},
    ],
    "kirsch": [{"output": ["max", "nw"]}],
    "robinson": [{"output": ["max", "ne"]}, {"levels": 3, "output": "s", "normalize": True}],
    "prewitt_compass": [{"output": ["max", "sw"]}],
    "laplacian": [{"neighbours": [4, 8]}, {"size": [3, 5], "normalize": True, "negate": True}],
    "emboss": [{"direction": ["ne", "s"], "strength": 0.5}],
    "disk": [{"radius": [2.5, 6]}, {"radius": 3, "edge": "hard"}],
    "unsharp": [{"sigma": 1.5, "amount": 2}, {"sigma": 1, "threshold": 20}],
    "gaussian": [
        {"sigma": [0.8, 2], "convention": "opencv"},
        {"sigma": 1.5, "order": 1, "axis": "x"},
        {"sigma": 1, "derivative": ["xy", "xxx"], "rotation_invariant": "max"},
    ],
    "log": [{"sigma": 1.5, "scale_normalized": True}, {"sigma": 1, "zero_sum": True}],
    "dog": [{"sigma": 1}, {"sigma": 0.8, "sigma_wide": 2, "convention": "integrated"}],
    "gabor": [
        {"wavelength": 4, "orientations": 2},
        {"wavelength": 3, "orientations": 3, "pool": "max", "convention": "opencv"},
    ],
    "log_gabor": [
        {"wavelength": 4, "output": ["magnitude", "odd"]},
        {"wavelength": 6, "orientations": 3, "pool": "mean"},
    ],
    "steerable": [
        {"sigma": 1, "order": [2, 4], "orientations": 2},
        {"sigma": 1, "orientations": 3, "pool": "max", "output": "odd"},
    ],
    "leung_malik": [{"scale": 0.1}],
    "schmid": [{"scale": 0.1}],
    "rfs": [{"scale": 0.1}],
    "mr8": [{"scale": 0.1, "sign": ["abs", "signed"]}],
    "mean": [{"size": [4, 5]}],
    "motion": [
        {"length": 5, "orientation": [0, 30]},
        {"length": 4, "orientations": 4, "pool": "max"},
    ],
    "laws": [{"kernels": "E5S5", "rotation_invariant": "max", "energy": 5}, {"kernels": "L5R5"}],
    "hessian": [
        {"sigma": 1, "output": ["xy", "eigenvalue_1", "determinant", "trace", "norm"]},
        {"sigma": 1.5, "output": ["shape_index", "curvedness"], "scale_normalized": True},
        {"sigma": 1, "output": "eigenvalue_2", "order": "magnitude"},
        {"sigma": 0.6, "output": "xy", "rotation_invariant": "max"},
    ],
    "structure_tensor": [
        {"sigma": 0.8, "rho": 1.5, "output": ["xx", "eigenvalue_2", "coherence", "orientation"]},
    ],
    "frangi": [{"gamma": 50, "sigmas": [0.7, 1], "truncate": 2}],
    "sato": [{"sigmas": [0.7, 1], "truncate": 2}, {"sigmas": [1.5], "ridges": "white"}],
    "local_binary_pattern": [
        {"method": ["default", "ror", "uniform", "nri_uniform"]},
        {"points": 12, "radius": 2.2, "interpolation": "nearest"},
    ],
    "meijering": [{"sigmas": [0.7, 1], "ridges": "white", "truncate": 2}],
    "random": [{"count": 2, "size": 4, "seed": 3}, {"count": 2, "size": 3, "channels": 2}],
    "kernel": [
        {"name": "own", "weights": LOPSIDED, "bias": 2.5},
        {"name": "turned", "weights": LOPSIDED, "convolve": True},
        {"name": "layer", "weights": [[LOPSIDED, LOPSIDED[::-1]]]},
        {"name": "any_way", "weights": LOPSIDED, "rotation_invariant": "max"},
    ],
    "wavelet": [
        {"wavelet": ["haar", "db2"]},
        {"wavelet": "bior2.2", "level": 2, "subbands": ["LH", "HH"], "rotation_invariant": "mean"},
        {"wavelet": "coif1", "subbands": "HL", "rotation_invariant": "max", "energy": 2},
    ],
    "simoncelli": [{"level": [1, 2]}, {"level": 2, "grid": "dft", "pad": 0.5}],
    "riesz": [
        {"order": ["x", "xyy"], "grid": "dft"},
        {"order": "yy", "sigma": 1.5},
        {"order": "x", "rotation_invariant": "max"},
        {"order": ["x", "xy"], "level": 1, "tensor_sigma": 1},
    ],
    "monogenic": [{"level": 1, "output": ["amplitude", "phase", "orientation"]}],
    "stack": [
        {
            "name": "net",
            "layers": [
                {
                    "weights": [[LOPSIDED, LOPSIDED[::-1]], [LOPSIDED, LOPSIDED]],
                    "bias": [-9, 2],
                    "pool": "max",
                    "size": 2,
                },
                {
                    "weights": [[[[1, -2]], [[3, 1]]]],
                    "activation": "abs",
                    "pool": "mean",
                    "size": 3,
                },
            ],
        },
    ],
}
"""Small entries of `filters:` in place of a family's `examples`, with more of its special cases."""

BANDS = 2
SHAPE = (31, 37)
MANY = 99
"""Images to try in turn where one may not show what it should."""


@pytest.fixture(params=FILTERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def plan_of(family: str, boundary: Any = "reflect") -> Plan:
    return _planned(family, json.dumps(boundary))


@cache
def _planned(family: str, boundary: str) -> Plan:
    filters = [{family: given} for given in EXAMPLES.get(family, FILTERS[family].examples)]
    with TemporaryDirectory() as folder:
        config = write_config(
            Path(folder) / "c.yaml", filters=filters, boundary=json.loads(boundary)
        )
        return Plan(load(config), "cpu")


def image(shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers, so that differences of neighbours are exact: (1, BANDS, *shape) float32."""
    rng = np.random.default_rng(9)
    return rng.integers(0, 256, (1, BANDS, *shape)).astype(np.float32)


def info_of(shape: tuple[int, ...]) -> ImageInfo:
    labels = tuple(str(i + 1) for i in range(BANDS))
    return ImageInfo(shape, labels, "float32", Grid((1.0,) * len(shape)))


def respond(
    bank: BankPlan,
    pixels: np.ndarray,
    core: Region | None = None,
    valid: np.ndarray | None = None,
) -> list[Response]:
    """Run a bank over a core, given no more pixels than it asks for."""
    shape = pixels.shape[2:]
    tile = Tile(Source("x", (), "npy", info=info_of(shape)), core or Region.whole(shape))
    box = bank.box(tile.core, shape)
    at = (slice(None), slice(None), *box.slices())
    mask = None if valid is None else torch.from_numpy(valid[at].copy())
    batch = Batch((tile,), box, info_of(shape).bands, torch.from_numpy(pixels[at].copy()), mask)
    return list(apply_bank(bank, batch))


@cache
def nodes(family: str, ndim: int) -> Mapping[str, Node]:
    """Expressions by response for one rank; empty where the family does not exist for it."""
    found: dict[str, Node] = {}
    for named in plan_of(family).config.filters:
        try:
            responses = named.filter.responses(Grid((1.0,) * ndim))
        except PlanError:
            continue
        found |= {named.name + suffix: node for suffix, node in responses.items()}
    return found


def local(found: Mapping[str, Node]) -> dict[str, Node]:
    """Without the responses that depend on the whole image: tiles of it have none."""
    return {
        name: node
        for name, node in found.items()
        if not any(isinstance(part, Spectrum) for part in nodes_of(node))
    }


# ---------------------------------------------------------------- as values
def rebuilt(plan: Plan, folder: Path) -> Plan:
    """The plan of a config file that is written from the expanded config, and where files lie."""
    told, given = expanded(plan.config), plan.config.input
    where: dict[str, Any] = {"path": "elsewhere"}
    if given.include is not None:
        where["include"] = list(given.include)
    if given.mask is not None:
        where["mask"] = told["input"]["mask"] | {"path": given.mask.path}
    filters = [
        {one.pop("family"): one.pop("parameters") | {k: v for k, v in one.items() if v is not None}}
        for one in told["filters"]
    ]
    sections = told | {
        "filters": filters,
        "input": told["input"] | where,
        "output": told["output"] | {"path": "elsewhere"},
    }
    return Plan(load(write_config(folder / "again.yaml", **sections)), "cpu")


def test_the_expanded_config_is_a_config_of_the_same_digest(family: str, tmp_path: Path) -> None:
    plan = plan_of(family)
    again = rebuilt(plan, tmp_path)
    assert again.expanded == plan.expanded
    assert again.digest == plan.digest
    assert [r.id for r in again.responses] == [r.id for r in plan.responses]


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "configs").glob("*.yaml")))
def test_shipped_configs_survive_the_same_trip(name: str, tmp_path: Path) -> None:
    plan = Plan(load(ROOT / "configs" / f"{name}.yaml"), "cpu")
    assert rebuilt(plan, tmp_path).digest == plan.digest


def test_another_parameter_is_another_digest(family: str) -> None:
    other = next(name for name in FILTERS if name != family)
    digests = {plan_of(family).digest, plan_of(other).digest}
    for mode in ("mirror", {"constant": 1}):
        digests.add(plan_of(family, mode).digest)
    assert len(digests) == 4


def test_a_plan_survives_a_trip_to_another_process(family: str) -> None:
    plan = plan_of(family)
    again = pickle.loads(pickle.dumps(plan))
    assert (again, again.digest) == (plan, plan.digest)
    banks = plan.banks(info_of(SHAPE))
    assert again.banks(info_of(SHAPE)) == banks
    assert pickle.loads(pickle.dumps(banks)) == banks


# ---------------------------------------------------------------- honest halo
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_response_depends_on_its_reach_and_on_nothing_beyond(family: str, ndim: int) -> None:
    found = nodes(family, ndim)
    if not found:
        assert ndim != 2, "every family exists in 2-D"
        return
    for name, node in local(found).items():
        reach = reach_of(node, ndim)
        centre = tuple(before + 2 for before, _ in reach)
        shape = tuple(c + after + 3 for c, (_, after) in zip(centre, reach, strict=True))
        pixels, noise = image(shape), image(shape)[..., ::-1] * 999 + 1
        bank = compile_bank([(name, node, Boundary("constant"))], ndim, strict=True)
        point = Region(centre, tuple(c + 1 for c in centre))
        at = (slice(None), slice(None), *point.grow(reach).slices())

        def value(x: np.ndarray, bank: BankPlan = bank, c: tuple[int, ...] = centre) -> np.ndarray:
            (response,) = respond(bank, x)
            return response.values.numpy()[(0, slice(None), *c)]

        @cache
        def plain(shift: int, x: np.ndarray = pixels) -> tuple[np.ndarray, np.ndarray]:
            moved = np.roll(x, 7 * shift)
            return moved, value(moved)

        before = plain(0)[1]
        beyond = pixels + noise
        beyond[at] = pixels[at]
        assert (beyond != pixels).any()
        np.testing.assert_array_equal(value(beyond), before, err_msg=name)
        for axis, side in product(range(ndim), (0, -1)):
            changed = np.zeros(before.shape, np.bool_)
            for shift in range(MANY):  # a ridge filter is 0 at most places
                moved, answer = plain(shift)
                nearer = moved.copy()
                box = np.moveaxis(nearer[at], axis + 2, 0)
                box[side] += np.moveaxis(noise[at], axis + 2, 0)[side]
                changed |= value(nearer) != answer
                if changed.all():
                    break
            assert changed.all(), f"{name}: axis {axis}, side {side}"


# ---------------------------------------------------------------- tile = whole
def cores(shape: tuple[int, ...], size: tuple[int, ...]) -> Iterator[Region]:
    steps = (range(0, n, s) for n, s in zip(shape, size, strict=True))
    for start in product(*steps):
        stop = tuple(min(a + s, n) for a, s, n in zip(start, size, shape, strict=True))
        yield Region(start, stop)


def bank_of(found: Mapping[str, Node], boundary: Boundary, ndim: int = 2) -> BankPlan:
    return compile_bank(((name, node, boundary) for name, node in found.items()), ndim)


@pytest.mark.parametrize("mode", MODES)
def test_tiles_equal_the_whole(family: str, mode: Any) -> None:
    found = local(nodes(family, 2))
    if not found:
        return
    bank, pixels = bank_of(found, Boundary(mode)), image(SHAPE)
    holes = np.ones(pixels.shape, np.bool_)
    holes[:, :, 9:14, 20:31] = False
    for valid in (None, holes):
        whole = respond(bank, pixels, valid=valid)
        stitched = [np.full(full.values.shape, np.nan, np.float32) for full in whole]
        seen = [np.zeros(full.values.shape, np.bool_) for full in whole]
        covered = 0
        for core in cores(SHAPE, (13, 16)):
            for i, part in enumerate(respond(bank, pixels, core, valid)):
                assert (part.name, part.bands) == (whole[i].name, whole[i].bands)
                covered += part.region.size
                at = (slice(None), slice(None), *part.region.slices(whole[i].region.start))
                stitched[i][at] = part.values
                seen[i][at] = True if part.valid is None else part.valid
        assert covered == sum(response.region.size for response in whole)
        for full, values, good in zip(whole, stitched, seen, strict=True):
            wanted = np.ones_like(good) if full.valid is None else full.valid.numpy()
            np.testing.assert_array_equal(good, wanted, err_msg=full.name)
            theirs = full.values.numpy()
            error = tolerance(theirs)
            np.testing.assert_allclose(values[good], theirs[good], rtol=0, atol=error)


# ---------------------------------------------------------------- slices = volume, passes on = off
def test_a_volume_filtered_slice_by_slice_is_its_slices(family: str) -> None:
    found = nodes(family, 2)
    flat = bank_of(found, Boundary("reflect"))
    deep = bank_of({n: lift(node, 3) for n, node in found.items()}, Boundary("reflect"), 3)
    volume = image((3, *SHAPE))
    stack = respond(deep, volume)
    for z in range(3):
        for plane, response in zip(respond(flat, volume[:, :, z]), stack, strict=True):
            error = tolerance(plane.values.numpy())
            np.testing.assert_allclose(response.values[:, :, z], plane.values, rtol=0, atol=error)


def test_fast_passes_equal_the_kernels_they_stand_for(family: str) -> None:
    """With a mask that hides nothing the bank takes the plain path: one kernel per response."""
    bank = bank_of(nodes(family, 2), Boundary("mirror"))
    pixels = image(SHAPE)
    plain = respond(bank, pixels, valid=np.ones(pixels.shape, np.bool_))
    for fast, slow in zip(respond(bank, pixels), plain, strict=True):
        assert slow.valid is not None
        assert slow.valid.all()
        error = 2 * tolerance(slow.values.numpy())
        np.testing.assert_allclose(fast.values, slow.values, rtol=0, atol=error, err_msg=fast.name)


def test_a_response_names_no_band_that_it_does_not_join(family: str) -> None:
    for node in nodes(family, 2).values():
        assert bands_of(node) in ((), tuple(range(BANDS)))


def test_examples_are_of_registered_families() -> None:
    assert EXAMPLES.keys() <= FILTERS.keys()
