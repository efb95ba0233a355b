"""Explicit weights as a value: hashable, comparable by content, at home in a config file."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from pipeline.bank.expr import Array
from pipeline.bank.kernels import MAX_TAPS
from pipeline.types import Ints

READABLE = 256
"""Up to this many numbers are written as nested lists, more as base64 of their bytes."""


@dataclass(frozen=True, slots=True, repr=False)
class Weights:
    """An array of finite numbers, kept in float64, C order; rank 0 is one number.

    Examples
    --------
    >>> weights = Weights.of([[1, 2], [3, 4]])
    >>> weights.shape, str(weights), weights == Weights.of(weights.array)
    ((2, 2), '2x2-6bab56d2', True)
    """

    shape: Ints
    data: bytes

    @classmethod
    def of(cls, value: object) -> Weights:
        """Take nested lists, an array, or what `dump` made. Raises ValueError for anything else."""
        if isinstance(value, Weights):
            return value
        if isinstance(value, dict):
            value = _unpack(value)
        try:
            array = np.asarray(value)
        except ValueError:
            message = "the rows are not equally long; give every row as many numbers as the first"
            raise ValueError(message) from None
        if array.dtype.kind not in "iuf" or not array.size or not np.isfinite(array).all():
            message = (
                f"weights are finite real numbers in nested lists (got {array.dtype} "
                f"of shape {array.shape}: {str(value)[:40]})"
            )
            raise ValueError(message)
        if array.size > MAX_TAPS:
            message = f"{array.size} weights are too many (at most {MAX_TAPS})"
            raise ValueError(message)
        return cls(array.shape, np.ascontiguousarray(array, dtype=np.float64).tobytes())

    @property
    def array(self) -> Array:
        """The numbers, read-only float64."""
        return np.frombuffer(self.data, dtype=np.float64).reshape(self.shape)

    def dump(self) -> Any:
        """A form that JSON can hold: nested lists, or a packed object for many numbers."""
        if self.array.size <= READABLE:
            return self.array.tolist()
        with np.errstate(over="ignore"):  # then they differ, and float64 is packed
            narrow = self.array.astype(np.float32)
        packed = narrow if (narrow == self.array).all() else self.array
        text = b64encode(packed.astype(packed.dtype.newbyteorder("<")).tobytes()).decode()
        return {"shape": list(self.shape), "dtype": packed.dtype.name, "base64": text}

    def __str__(self) -> str:
        """Shape and the start of a hash of the content: what a response name shows."""
        shape = "x".join(map(str, self.shape))
        if not shape:
            return repr(self.array.item()).removesuffix(".0")
        return f"{shape}-{sha256(self.data).hexdigest()[:8]}"

    def __repr__(self) -> str:
        """Short, for error texts: thousands of bytes help nobody."""
        return f"Weights({self})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        del source, handler
        dump = core_schema.plain_serializer_function_ser_schema(cls.dump)
        return core_schema.no_info_plain_validator_function(cls.of, serialization=dump)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        del schema, handler
        return {"anyOf": [{"type": "number"}, {"type": "array"}]}


def _unpack(packed: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Read the packed form back."""
    try:
        dtype = np.dtype({"float32": "<f4", "float64": "<f8"}[packed["dtype"]])
        numbers = np.frombuffer(b64decode(packed["base64"], validate=True), dtype)
        return numbers.reshape(packed["shape"]).astype(np.float64)
    except (KeyError, TypeError, ValueError):
        message = "packed weights need shape, dtype (float32 or float64) and base64 that agree"
        raise ValueError(message) from None
