"""Stacks of layers: the first part of a convolutional network, written in the config."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Conv, Edge, Input, Kernel, Map, Node, Pool, Responses
from pipeline.bank.kernels import bounded
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.kernel import layer, read_weights, with_file
from pipeline.filters.turned import refuse_turning, turned
from pipeline.filters.weights import Weights
from pipeline.types import Grid

MAX_PATHS = 1 << 12
"""Ways from the bands to a response, one per channel on the way: the size of its expression."""


@dataclass(frozen=True, config=ConfigDict(**PARAMETERS, json_schema_extra=with_file))
class Layer:
    """Convolve, rectify, pool."""

    weights: Annotated[Weights, Field(description="numbers: [out][in][kh][kw]")]
    bias: Annotated[
        Weights | None, Field(description="added before the activation; one number, or `out`")
    ] = None
    activation: Annotated[
        Literal["relu", "abs", "none"], Field(description="relu: max(x, 0); abs: |x|")
    ] = "relu"
    pool: Annotated[
        Literal["none", "max", "mean"],
        Field(description="the largest or the mean value of a window"),
    ] = "none"
    size: Annotated[
        int | None, Field(ge=2, description="edge of the pooling window, and its stride; pixels")
    ] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.pool == "none") != (self.size is None):
            message = "pool and size belong together; write pool: max, size: 2"
            raise ValueError(message)
        shape, biases = self.weights.shape, self.biases.shape
        if not 3 <= len(shape) <= 5:
            message = f"a layer's weights are [out][in][kh][kw] (got shape {shape})"
            raise ValueError(message)
        if biases not in {(), (1,), shape[:1]}:
            message = (
                f"bias of shape {biases} does not suit {shape[0]} channels; give one number each"
            )
            raise ValueError(message)
        return self

    @property
    def biases(self) -> Array:
        """One number, or one per channel."""
        return np.zeros(()) if self.bias is None else self.bias.array


@FILTERS.register("stack")
@dataclass(frozen=True, config=PARAMETERS)
class Stack:
    """Layers one after another, each conv -> activation -> pool; a response per last channel.

    A layer is {weights | file and tensor, bias, activation, pool, size}, read as those of `kernel`
    are. Its convolution correlates and sums over all channels below, those of the first layer over
    the bands: torch.nn.Conv2d (Conv3d), ReLU, MaxPool2d or AvgPool2d. The responses are "[1]" to
    "[out]", of the image's size: pooling has stride 1, and what follows a pool of size p works on
    every p-th pixel (a trous). On every S-th pixel, S the product of the pool sizes, the values are
    those of the network with stride p.

    Each layer extends what it is given by the boundary rule: `valid` is torch's padding=0, whose
    output [j] is the map's [S j]; `constant` is its padding="same", whose output [j] is the map's
    [S - 1 + S j] where kernels are odd, pools have size 2 and the image's sides are multiples of S.

    References
    ----------
    M. J. Shensa, "The discrete wavelet transform: wedding the a trous and Mallat algorithms",
    IEEE Transactions on Signal Processing 40, 1992; J. Long, E. Shelhamer, T. Darrell, "Fully
    convolutional networks for semantic segmentation", CVPR 2015, section 3.1.

    Examples
    --------
    >>> edge = [[[[-1, 0, 1]]], [[[1, 0, -1]]]]
    >>> both = Stack(layers=[{"weights": edge, "pool": "max", "size": 2}])
    >>> list(both.responses(Grid((1.0, 1.0))))
    ['[1]', '[2]']
    """

    topic: ClassVar[Topic] = "your own weights"
    examples: ClassVar[Examples] = (
        {
            "name": "corners",
            "layers": [
                {"weights": [[[[-1, 1], [-1, 1]]], [[[-1, -1], [1, 1]]]], "pool": "max", "size": 3},
                {"weights": [[[[1]], [[1]]]], "bias": -200},
            ],
        },
    )
    not_swept: ClassVar[frozenset[str]] = frozenset({"layers"})

    layers: Annotated[
        tuple[Layer, ...],
        Field(
            min_length=1,
            description="each {weights | file and tensor, bias, activation: relu | abs | none, "
            "pool: none | max | mean, size}",
        ),
    ]
    rotation_invariant: RotationInvariant = "none"

    @classmethod
    def spread(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Read what the layers' files hold."""
        layers = given.get("layers")
        if not isinstance(layers, list):
            return given
        read = [_read(i, item) if isinstance(item, dict) else item for i, item in enumerate(layers)]
        return given if read == layers else given | {"layers": read}

    @model_validator(mode="after")
    def _layers_follow_each_other(self) -> Self:
        for i, (below, above) in enumerate(pairwise(self.layers)):
            if above.weights.shape[1] != below.weights.shape[0]:
                message = (
                    f"layers[{i + 1}] takes {above.weights.shape[1]} channels, layers[{i}] makes "
                    f"{below.weights.shape[0]}; weights are [out][in][kh][kw]"
                )
                raise ValueError(message)
        paths = np.prod([float(one.weights.shape[1]) for one in self.layers])
        if paths > MAX_PATHS:
            message = (
                f"each response has {paths:.0f} ways through the channels, at most {MAX_PATHS}; "
                "give fewer layers or channels"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _its_windows_turn(self) -> Self:
        if any(one.pool == "max" and one.size and one.size % 2 == 0 for one in self.layers):
            reason = "its max window of even size has no pixel in the middle to turn around"
            refuse_turning("a stack", reason, self.rotation_invariant)
        return self

    def responses(self, grid: Grid) -> Responses:
        """Responses "[1]" to "[out]"; PlanError where the weights have another rank."""
        channels: list[Node] = [Input(i) for i in range(self.layers[0].weights.shape[1])]
        step = 1
        for number, one in enumerate(self.layers):
            if len(one.weights.shape) != grid.ndim + 2:
                message = (
                    f"stack: layers[{number}] has weights of shape {one.weights.shape}, the images "
                    f"{grid.ndim} axes; give [out][in] and one size per axis"
                )
                raise PlanError(message)
            of = [Edge(node) for node in channels] if number else channels
            biases = np.broadcast_to(one.biases, one.weights.shape[:1])
            sums = layer(_spaced(one.weights.array, step), biases, of).values()
            channels = [_pooled(one, _activated(one, node), step, grid) for node in sums]
            step *= one.size or 1
        found = {f"[{number}]": node for number, node in enumerate(channels, 1)}
        return turned("stack", found, self.rotation_invariant, grid)


def _read(number: int, given: dict[str, Any]) -> dict[str, Any]:
    try:
        return read_weights(given)
    except ValueError as error:
        message = f"layers[{number}]: {error}"
        raise ValueError(message) from error


def _spaced(weights: Array, step: int) -> Array:
    """The kernels with their taps `step` pixels apart."""
    lead, sizes = weights.shape[:2], weights.shape[2:]
    wide = np.zeros(bounded((*lead, *((n - 1) * step + 1 for n in sizes))))
    every = (slice(None, None, step),) * len(sizes)
    wide[:, :, *every] = weights
    return wide


def _activated(one: Layer, node: Node) -> Node:
    if one.activation == "none":
        return node
    return Map(node, "rectify" if one.activation == "relu" else "abs")


def _pooled(one: Layer, node: Node, step: int, grid: Grid) -> Node:
    if one.size is None:
        return node
    if one.pool == "max":
        return Pool(node, (one.size,) * grid.ndim, "max", step)
    window = _spaced(np.full((1, 1, *(one.size,) * grid.ndim), one.size**-grid.ndim), step)[0, 0]
    return Conv(node, Kernel.of(window, (one.size // 2 * step,) * grid.ndim))
