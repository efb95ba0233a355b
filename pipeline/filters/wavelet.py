"""Undecimated separable wavelets."""

from __future__ import annotations

from itertools import product
from typing import Annotated, ClassVar

import numpy as np
import pywt
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Conv, Edge, Input, Kernel, Node, Responses
from pipeline.bank.kernels import bounded
from pipeline.bank.rotations import pool_rotations
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.laws import Energy, energy_map
from pipeline.registry import nearest
from pipeline.types import Grid


@FILTERS.register("wavelet")
@dataclass(frozen=True, config=PARAMETERS)
class Wavelet:
    """Sub-bands of the undecimated wavelet transform, of the size of the image, any rank.

    IBSI 2's separable wavelets (25BO). A sub-band has a letter per axis in the order x, y(, z): L
    filters along it with the low-pass taps, H with the high-pass ones (PyWavelets' `dec_lo` and
    `dec_hi`), so the H of HLL runs along the rows, numpy's last axis. Level j has 2^(j-1) - 1 zeros
    between its taps and filters the all-L sub-band of level j - 1, which is extended at the image's
    border by the boundary rule. Convolves: out[i] = sum_k w[k] x[i - s (k - n // 2)] with n taps
    and s = 2^(j-1), as if taps of even number had one trailing zero before the dilation. Equal to
    pywt.swt, swt2 and swtn under the boundary `wrap`. L multiplies a constant by sqrt(2) per axis
    and level. Rotation invariance takes the largest (signed) or the mean response over the 4 (24
    in 3-D) right-angle rotations, the same one at every level; energy comes last, as in `laws`.

    References
    ----------
    M. J. Shensa, "The discrete wavelet transform: wedding the a trous and Mallat algorithms",
    IEEE Transactions on Signal Processing 40, 1992; A. Depeursinge et al., "Standardised
    convolutional filtering for radiomics", arXiv:2006.05470.

    Examples
    --------
    >>> node = Wavelet(wavelet="haar", subbands="HL").responses(Grid((1.0, 1.0)))[""]
    >>> (2 * node.kernel.array).round(12), node.kernel.origin
    (array([[ 1., -1.],
           [ 1., -1.]]), (0, 0))
    """

    topic: ClassVar[Topic] = "wavelets"
    examples: ClassVar[Examples] = ({"wavelet": "coif1", "level": 1},)

    wavelet: Annotated[
        str, Field(description="a discrete wavelet of PyWavelets: haar, db4, sym4, coif1, bior2.2")
    ]
    level: Annotated[int, Field(ge=1, le=10, description="1 is the finest")] = 1
    subbands: Annotated[
        str, Field(description="L or H per axis in the order x, y, z: LLH; or all")
    ] = "all"
    rotation_invariant: RotationInvariant = "none"
    energy: Energy = None

    @field_validator("wavelet")
    @classmethod
    def _is_known(cls, name: str) -> str:
        known = pywt.wavelist(kind="discrete")
        if name not in known:
            families = ([w for w in pywt.wavelist(one) if w in known] for one in pywt.families())
            spans = (f"{own[0]} to {own[-1]}" if own[1:] else own[0] for own in families if own)
            hint = nearest(name, known, ", ".join(spans))
            message = f"unknown wavelet {name!r}{hint}"
            raise ValueError(message)
        return name

    @field_validator("subbands")
    @classmethod
    def _is_made_of_letters(cls, text: str) -> str:
        if text != "all" and (not text or set(text) - set("LH")):
            message = f"{text!r} is not a sub-band; write L or H per axis, as in LLH, or all"
            raise ValueError(message)
        return text

    def responses(self, grid: Grid) -> Responses:
        """One response, or for `all` one per sub-band; PlanError unless a letter per axis."""
        if self.subbands == "all":
            names = ["".join(letters) for letters in product("LH", repeat=grid.ndim)]
            return {f"[{name}]": self._response(name, grid) for name in names}
        if len(self.subbands) != grid.ndim:
            message = (
                f"wavelet: sub-band {self.subbands!r} has {len(self.subbands)} letters, these "
                f"images have {grid.ndim} axes; name one per axis, take all, or set the rank"
            )
            raise PlanError(message)
        return {"": self._response(self.subbands, grid)}

    def _response(self, letters: str, grid: Grid) -> Node:
        node: Node = Input()
        for level in range(1, self.level + 1):
            kernel = self._kernel(letters if level == self.level else "L" * grid.ndim, level)
            node = Conv(node if level == 1 else Edge(node), kernel)
        pooled = pool_rotations(node, grid.ndim, self.rotation_invariant)
        return energy_map(pooled, self.energy, grid.ndim)

    def _kernel(self, letters: str, level: int) -> Kernel:
        """One kernel for all axes, which are those of the grid: the letters' reversed."""
        axes = [self._taps(letter, 2 ** (level - 1)) for letter in reversed(letters)]
        bounded(tuple(taps.size for taps, _ in axes))
        weights = np.ones(())
        for taps, _ in axes:
            weights = np.multiply.outer(weights, taps)
        return Kernel.of(weights, tuple(origin for _, origin in axes))

    def _taps(self, letter: str, step: int) -> tuple[Array, int]:
        """Taps as applied, without the zeros at their ends, and their origin."""
        wavelet = pywt.Wavelet(self.wavelet)
        taps = np.array(wavelet.dec_lo if letter == "L" else wavelet.dec_hi)[::-1]
        used = np.flatnonzero(taps)
        origin = taps.size - 1 - taps.size // 2
        first, last = min(int(used[0]), origin), max(int(used[-1]), origin)
        spread = np.zeros((last - first) * step + 1)
        spread[::step] = taps[first : last + 1]
        return spread, (origin - first) * step
