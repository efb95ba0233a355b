"""Kernels given as numbers: typed in, or from the first layer of a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank import expr
from pipeline.bank.expr import Array, Conv, Input, Join, Map, Node, Responses
from pipeline.bank.kernels import convolving
from pipeline.bank.rotations import pool_rotations
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.tensorfile import read_array
from pipeline.filters.weights import Weights
from pipeline.types import Grid


def with_file(schema: dict[str, Any]) -> None:
    """Let editors accept what `read_weights` turns into weights."""
    text = {"type": "string"}
    schema["properties"] |= {
        "file": text | {"description": "a .npy, .safetensors, .pt or .pth file with the weights"},
        "tensor": text | {"description": "name of the weights in the file; a .npy has none"},
    }
    schema["properties"]["bias"]["anyOf"] += [text]
    schema["required"] = []
    schema["oneOf"] = [{"required": ["weights"]}, {"required": ["file"]}]


def read_weights(given: dict[str, Any]) -> dict[str, Any]:
    """Replace `file`, `tensor` and a bias's name by the numbers they stand for."""
    rest = dict(given)
    file, tensor = rest.pop("file", None), rest.pop("tensor", None)
    if (file is None) == ("weights" not in rest):
        message = "give either weights or a file (.npy, .safetensors, .pt) that holds them"
        raise ValueError(message)
    if file is None:
        if tensor is not None or isinstance(rest.get("bias"), str):
            message = "tensor and a bias's name stand for arrays in a file; name the file"
            raise ValueError(message)
        return rest
    rest["weights"] = Weights.of(read_array(file, tensor))
    if isinstance(rest.get("bias"), str):
        rest["bias"] = Weights.of(read_array(file, rest["bias"]))
    return rest


@FILTERS.register("kernel")
@dataclass(frozen=True, config=ConfigDict(**PARAMETERS, json_schema_extra=with_file))
class Kernel:
    """Weights as they stand, correlated: out[i] = sum_k w[k] x[i + k - size // 2] + bias.

    That is scipy.ndimage.correlate, OpenCV's filter2D and torch's Conv2d, stride 1; with
    `convolve: true` it is scipy.ndimage.convolve. Weights of the images' rank, [kh][kw] or
    [kd][kh][kw], filter each band by itself. Two axes more, [out][in][kh][kw], make a layer:
    responses "[1]" to "[out]", each the sum over bands 1 to `in`, with one bias or `out` of them.
    `file` (relative to the config file) is a .npy array, or a .safetensors file or a state dict
    (.pt, .pth) with `tensor`, the name of its weights; `bias` may then be a name too. Nothing in a
    file is run: torch reads state dicts with weights_only.
    Rotation invariance takes the largest (signed) or the mean response over the 4 (24 in 3-D)
    right-angle rotations of the weights.

    References
    ----------
    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285.

    Examples
    --------
    >>> edge = Kernel(weights=[[-1, -1, -1], [0, 0, 0], [1, 1, 1]])
    >>> edge.responses(Grid((1.0, 1.0)))[""].kernel.shape
    (3, 3)
    """

    topic: ClassVar[Topic] = "your own weights"
    examples: ClassVar[Examples] = (
        {"name": "horizontal_edge", "weights": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]},
    )
    not_swept: ClassVar[frozenset[str]] = frozenset({"weights", "bias"})

    weights: Annotated[Weights, Field(description="numbers: [kh][kw], or [out][in][kh][kw]")]
    bias: Annotated[
        Weights | None, Field(description="added to the response; one number, or one per out")
    ] = None
    convolve: Annotated[bool, Field(description="flip the weights: a true convolution")] = False
    rotation_invariant: RotationInvariant = "none"

    @classmethod
    def spread(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Read what a file holds."""
        return read_weights(given)

    @model_validator(mode="after")
    def _has_one_bias_per_response(self) -> Self:
        rank, biases = len(self.weights.shape), self._biases.shape
        if not 1 <= rank <= 5:
            message = f"weights have 1 to 5 axes (got shape {self.weights.shape})"
            raise ValueError(message)
        # Rank 3 and more may be a layer, whose first axis counts the responses.
        if biases not in {(), (1,)} and (rank < 3 or biases != self.weights.shape[:1]):
            message = (
                f"bias of shape {biases} does not suit weights of shape {self.weights.shape}; "
                "give one number, or one per response"
            )
            raise ValueError(message)
        return self

    @property
    def _biases(self) -> Array:
        return np.zeros(()) if self.bias is None else self.bias.array

    def responses(self, grid: Grid) -> Responses:
        """One response, or one per kernel of a layer; PlanError where the rank is neither."""
        found = self._as_given(grid)
        how = self.rotation_invariant
        return {suffix: pool_rotations(node, grid.ndim, how) for suffix, node in found.items()}

    def _as_given(self, grid: Grid) -> Responses:
        weights, bias = self.weights.array, self._biases
        if weights.ndim == grid.ndim and bias.size == 1:
            return {"": _biased(_conv(Input(), weights, self.convolve), bias.item())}
        if weights.ndim == grid.ndim + 2:
            biases = np.broadcast_to(bias, weights.shape[:1])
            bands = [Input(band) for band in range(weights.shape[1])]
            return layer(weights, biases, bands, convolve=self.convolve)
        message = (
            f"kernel: weights of shape {weights.shape} and bias of shape {bias.shape} do not suit "
            f"images with {grid.ndim} axes; give {grid.ndim} axes (each band by itself, one bias) "
            f"or {grid.ndim + 2} axes ([out][in] first, one bias or one per out)"
        )
        raise PlanError(message)


def layer(
    weights: npt.NDArray[np.floating],
    biases: npt.NDArray[np.floating],
    of: Sequence[Node],
    *,
    convolve: bool = False,
) -> dict[str, Node]:
    """Write a layer as responses "[1]" ... "[out]", each a sum over the nodes `of`.

    weights: [out][in][*kernel], with one node per `in`; biases: [out].
    """
    found: dict[str, Node] = {}
    for number, (kernels, bias) in enumerate(zip(weights, biases, strict=True), 1):
        parts = [_conv(node, part, convolve) for node, part in zip(of, kernels, strict=True)]
        total = parts[0] if len(parts) == 1 else Join(tuple(parts), "sum")
        found[f"[{number}]"] = _biased(total, float(bias))
    return found


def _conv(of: Node, weights: npt.ArrayLike, convolve: bool) -> Node:
    return Conv(of, convolving(weights) if convolve else expr.Kernel.of(weights))


def _biased(node: Node, bias: float) -> Node:
    return Map(node, "add", bias) if bias else node
