"""Every rewrite of the compiler keeps a bank's answers: random banks against float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from reference import cut_valid, evaluate, tolerance
from test_bank import MADE_UP, batch

from pipeline.bank import lower as lowering
from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import compile_bank
from pipeline.bank.expr import Conv, Input, Kernel
from pipeline.bank.lower import Dense, Recipe, Separated, Transformed
from pipeline.bank.passes import factors
from pipeline.boundary import Boundary

ENGINES = {
    "dense": lambda k: Dense(k),
    "separated": lambda k: Separated(chains) if (chains := factors(k)) else Dense(k),
    "blocks": lambda k: Transformed(k),
}


def force(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Let the compiler take one engine for every kernel, whatever it costs."""

    def chosen(kernels: Sequence[Kernel], *, strict: bool) -> dict[Kernel, Recipe]:
        assert not strict
        return {k: ENGINES[engine](k) for k in kernels}

    monkeypatch.setattr(lowering, "choose", chosen)


def kernel(rng: np.random.Generator, ndim: int, largest: int = 9) -> Kernel:
    shape = tuple(int(n) for n in rng.integers(1, largest + 1, ndim))
    if rng.random() < 0.5:
        weights = np.ones(())
        for n in shape:
            weights = np.multiply.outer(weights, rng.normal(size=n))
    else:
        weights = rng.normal(size=shape)
    weights[rng.random(shape) < 0.2] = 0.0
    origin = tuple(int(rng.integers(0, n)) for n in shape)
    return Kernel.of(weights, origin)


def respond(bank: Sequence[Kernel], image: np.ndarray, boundary: Boundary, **options) -> list:
    ndim = image.ndim - 1
    nodes = [(str(i), Conv(Input(), k), boundary) for i, k in enumerate(bank)]
    return list(apply_bank(compile_bank(nodes, ndim, **options), batch(image[None])))


def check(bank: Sequence[Kernel], image: np.ndarray, boundary: Boundary, **options) -> None:
    for k, response in zip(bank, respond(bank, image, boundary, **options), strict=True):
        node = Conv(Input(), k)
        want = evaluate(node, image, boundary)
        if boundary.mode == "valid":
            want = cut_valid(node, want, image.ndim - 1)
        got = response.values[0].numpy()
        assert got.shape == want.shape
        scale = np.abs(k.array).sum() * np.abs(image).max() * 1e-6
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(want) + scale)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", MADE_UP)
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_engine_equals_scipy(monkeypatch, engine: str, mode: str, ndim: int) -> None:
    force(monkeypatch, engine)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image = rng.normal(3, 2, (2, *rng.integers(1, 24, ndim))).astype(np.float32)
        bank = [kernel(rng, ndim) for _ in range(3)]
        check(bank, image, Boundary(mode, 3.0 if mode == "constant" else 0.0))
