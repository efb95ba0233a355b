"""Arrays in files: .npy, and the .safetensors and state dicts of trained networks. No pickle."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.registry import nearest

if TYPE_CHECKING:
    from torch import Tensor

Numbers = npt.NDArray[Any]


def read_array(file: object, tensor: object) -> Numbers:
    """Read one array, in its own dtype (bfloat16 as float32).

    Raises
    ------
    ValueError
        Where there is no such file or tensor, or the file is damaged or of another kind.
    """
    if not isinstance(file, str) or not isinstance(tensor, str | None):
        message = f"file and tensor are one text each (got {file!r} and {tensor!r})"
        raise ValueError(message)
    path = Path(file)
    if path.suffix not in _READERS:
        message = (
            f"{path.name}: weights come from .npy, .safetensors, or .pt and .pth files, never from "
            "pickles; convert it with safetensors.torch.save_file"
        )
        raise ValueError(message)
    if not path.is_file():
        message = f"there is no file {file}; paths are relative to the config file"
        raise ValueError(message)
    return _READERS[path.suffix](path, tensor)


def _choose(path: Path, tensor: str | None, names: Iterable[str]) -> str:
    """The name of a tensor that the file has."""
    known = list(names)
    if tensor is None or tensor not in known:
        wanted = "needs tensor, the name of one" if tensor is None else f"lacks {tensor!r}"
        message = f"{path.name} {wanted}{nearest(tensor or '', known)}"
        raise ValueError(message)
    return tensor


def _read_npy(path: Path, tensor: str | None) -> Numbers:
    if tensor is not None:
        message = f"{path.name} holds one array without a name; drop tensor: {tensor!r}"
        raise ValueError(message)
    try:
        # Mapped: a header that promises more than the file holds fails before any allocation.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        message = f"{path.name} is not a readable .npy array of numbers: {error}"
        raise ValueError(message) from error


def _read_safetensors(path: Path, tensor: str | None) -> Numbers:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            name = _choose(path, tensor, file.keys())
            if file.get_slice(name).get_dtype() == "BF16":
                return _read_bfloat16(path, name)
            return np.asarray(file.get_tensor(name))
    except (SafetensorError, AttributeError, TypeError, OSError) as error:
        message = f"{path.name} is not a readable .safetensors file of numbers: {error}"
        raise ValueError(message) from error


def _read_bfloat16(path: Path, tensor: str) -> Numbers:
    """Read what numpy has no dtype for; bfloat16 is the upper half of a float32.

    The file starts with the header's length (8 bytes, little-endian) and the header as JSON;
    offsets count from its end. safe_open has checked them.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[tensor]
        start, stop = entry["data_offsets"]
        file.seek(8 + length + start)
        halves = np.frombuffer(file.read(stop - start), dtype="<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _read_state_dict(path: Path, tensor: str | None) -> Numbers:
    """Read what torch.save wrote, tensors and nothing that could run: this alone loads torch."""
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, ValueError, KeyError, OSError, EOFError) as error:
        reason = str(error).split("\n", 1)[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's advice would run what it holds
            reason = "it holds other things than tensors, or none"
        message = f"{path.name} is not a readable file of tensors (a state_dict): {reason}"
        raise ValueError(message) from error
    tensors = dict(_named(found, ""))
    chosen = tensors[_choose(path, tensor, tensors)].detach()
    return np.asarray((chosen.float() if chosen.dtype == torch.bfloat16 else chosen).numpy())


def _named(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors by name; those of dicts within dicts as `model.conv1.weight`."""
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _named(part, f"{name}.{key}" if name else str(key))


_READERS = {
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
    ".pt": _read_state_dict,
    ".pth": _read_state_dict,
}
