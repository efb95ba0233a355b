"""Random kernels: the first layer of a network before training."""

from __future__ import annotations

from math import prod, sqrt
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Input, Responses
from pipeline.bank.kernels import bounded
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.kernel import layer
from pipeline.filters.turned import turned
from pipeline.types import Grid, Ints

Floats = npt.NDArray[np.float32]


@FILTERS.register("random")
@dataclass(frozen=True, config=PARAMETERS)
class Random:
    """The weights of a freshly initialised torch.nn.Conv2d (Conv1d, Conv3d by the grid's rank).

    The numbers, bit for bit, of `torch.manual_seed(seed); Conv2d(channels, count, size)`: weights,
    then biases, uniform in [-b, b), b = 1 / sqrt(channels size^d) (He et al.
    with torch's a = sqrt(5)), drawn from MT19937 with 24 bits each. Correlates, as torch does.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification", ICCV 2015.

    Examples
    --------
    >>> [name for name in Random(count=2, size=3).responses(Grid((1.0, 1.0)))]
    ['[1]', '[2]']
    """

    topic: ClassVar[Topic] = "your own weights"
    examples: ClassVar[Examples] = ({"name": "random", "size": 5, "count": 4, "seed": 1},)

    count: Annotated[int, Field(ge=1, le=4096, description="number of kernels")]
    size: Annotated[int, Field(ge=1, description="edge of each kernel; pixels")]
    seed: Annotated[int, Field(ge=0, lt=2**32, description="as in torch.manual_seed")] = 0
    channels: Annotated[
        int | None, Field(ge=1, description="bands that each kernel joins; none: band by band")
    ] = None
    bias: Annotated[bool, Field(description="add the layer's random bias")] = True
    rotation_invariant: RotationInvariant = "none"

    def responses(self, grid: Grid) -> Responses:
        """Responses "[1]" to "[count]", of any rank."""
        of = [Input(band) for band in range(self.channels)] if self.channels else [Input()]
        fan_in = (len(of), *(self.size,) * grid.ndim)
        shape = bounded((self.count, *fan_in))
        raw = np.random.RandomState(self.seed).randint(
            0, 2**32, size=prod(shape) + self.count, dtype=np.uint32
        )
        weights = _uniform(raw[: prod(shape)], _kaiming_bound(fan_in)).reshape(shape)
        biases = _uniform(raw[prod(shape) :], 1 / sqrt(prod(fan_in)))
        found = layer(weights, biases if self.bias else np.zeros(self.count), of)
        return turned("random", found, self.rotation_invariant, grid)


def _kaiming_bound(fan_in: Ints) -> float:
    """The bound in torch's order of operations: its last bit decides the weights'."""
    gain = sqrt(2.0 / (1 + sqrt(5) ** 2))
    return sqrt(3.0) * (gain / sqrt(prod(fan_in)))


def _uniform(raw: npt.NDArray[np.uint32], bound: float) -> Floats:
    """Map raw 32-bit draws onto [-bound, bound) as torch does: 24 bits, in float32.

    torch's u * (high - low) + low is one fused operation with one rounding. Here product and sum
    fit in float64 without any (49 bits), and the cast is that rounding.
    """
    low, high = np.float32(-bound), np.float32(bound)
    unit = (raw & np.uint32(0xFFFFFF)) * 2.0**-24
    return (unit * np.float64(high - low) + np.float64(low)).astype(np.float32)
