"""JPEG files -> batches of pixels, decoded on the GPU that computes with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from threading import local
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipeline.errors import DeviceError, ReadError
from pipeline.readers.nvjpeg import TOLERANCE
from pipeline.readers.orientation import changes
from pipeline.types import Batch, Encoded

_OPTIONS = ":fancy_upsampling=1"
"""Chroma is interpolated, as by libjpeg-turbo; else it would be tens of gray levels off."""

_KINDS: Mapping[str, Mapping[str, Any]] = {
    "gray": {},
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
}
"""Of JPEG that is decoded here, and how Pillow writes them."""

_of_thread = local()


def decoded(encoded: Encoded, device: str) -> Batch:
    """The pixels of JPEG files, (N, C, H, W) uint8 on a device, upright. Raises ReadError."""
    found = _samples(encoded.files, device, gray=len(encoded.bands) == 1)
    planes = [
        _upright(x.movedim(-1, 0), turn) for x, turn in zip(found, encoded.turns, strict=True)
    ]
    values = torch.stack(planes)
    if values.shape[2:] != encoded.box.shape:
        message = f"nvJPEG makes {tuple(values.shape[2:])} pixels of it; write input.jpeg: libjpeg"
        raise ReadError("corrupt", message)
    return Batch(encoded.tiles, encoded.box, encoded.bands, values, regions=encoded.regions)


@cache
def check_decoder(device: str) -> None:
    """Compare what nvJPEG and libjpeg-turbo make of a small picture, for each kind of JPEG.

    Raises DeviceError where it is not decoded, or a sample is off by more than TOLERANCE.
    """
    for kind, options in _KINDS.items():
        wanted, data = _example(options, gray=kind == "gray")
        try:
            (found,) = _samples([data], device, gray=kind == "gray")
        except ReadError as error:
            message = (
                "nvJPEG decodes nothing here; pip install 'filterbank[cuda]' brings it, "
                "input.jpeg: libjpeg does without"
            )
            raise DeviceError(message) from error
        off = int(np.abs(found.cpu().numpy().reshape(wanted.shape) - wanted).max())
        if off > TOLERANCE:
            message = (
                f"nvJPEG is {off} gray levels off in a JPEG ({kind}), where {TOLERANCE} are "
                "allowed; write input.jpeg: libjpeg"
            )
            raise DeviceError(message)


def _example(options: Mapping[str, Any], *, gray: bool) -> tuple[npt.NDArray[np.int16], Tensor]:
    """What Pillow makes of a JPEG, and its bytes: waves of all lengths, with edges in colour."""
    from PIL import Image

    y, x = np.mgrid[:61, :83]
    waves = [128 + 90 * np.sin(x * y / 90), 128 + 90 * np.cos(x * x / 50), 255 * (y // 8 % 2)]
    picture = np.stack(waves, -1).astype(np.uint8)
    file = BytesIO()
    image = Image.fromarray(picture[..., 0] if gray else picture)
    image.save(file, "JPEG", quality=90, **options)
    data = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    return np.asarray(Image.open(file, formats=["JPEG"])).astype(np.int16), data


def _samples(files: Sequence[Tensor], device: str, *, gray: bool) -> list[Tensor]:
    """Samples of JPEG files, (H, W, C) uint8 each. Raises ReadError where one is not decoded."""
    codec, decoder = _decoder(device)
    params = codec.DecodeParams(
        apply_exif_orientation=False,
        color_spec=codec.ColorSpec.GRAY if gray else codec.ColorSpec.SRGB,
    )
    stream = torch.cuda.current_stream().cuda_stream if device == "cuda" else 0
    streams = [codec.CodeStream(file.numpy()) for file in files]
    images = decoder.decode(streams, params=params, cuda_stream=stream)
    for file, image in zip(files, images, strict=True):
        if image is None:
            raise _refusal(file)
    if device == "cpu":  # without a driver, DLPack is refused
        return [torch.from_numpy(np.asarray(image)) for image in images]
    return [from_dlpack(image) for image in images]


def _refusal(file: Tensor) -> ReadError:
    """Why nothing comes of a file: it is damaged, as Pillow says, too, or not at all."""
    from PIL import Image

    try:
        with Image.open(BytesIO(file.numpy().tobytes()), formats=["JPEG"]) as image:
            image.load()
    except Exception:
        message = "damaged JPEG file (nvJPEG cannot decode it); copy it again from its source"
        return ReadError("corrupt", message)
    message = (
        "a JPEG that nvJPEG does not decode, or finds no memory for; write input.jpeg: libjpeg"
    )
    return ReadError("unsupported", message)


def _decoder(device: str) -> tuple[Any, Any]:
    """The library, and a decoder of this thread's own.

    One way of decoding: what the library may choose among gives other bits, and may depend on how
    much there is to do. A CPU's is libjpeg-turbo.
    """
    if not hasattr(_of_thread, "decoder"):
        os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # a failed row says it
        from nvidia import nvimgcodec as codec

        cpu = device == "cpu"
        backend = codec.Backend(codec.CPU_ONLY if cpu else codec.HYBRID_CPU_GPU)
        number = codec.NVIMGCODEC_DEVICE_CPU_ONLY if cpu else codec.NVIMGCODEC_DEVICE_CURRENT
        threads = 1 if cpu else 0  # 0: of every processor; readers have little to do then
        decoder = codec.Decoder(number, threads, [backend], _OPTIONS)
        _of_thread.decoder = codec, decoder
    found: tuple[Any, Any] = _of_thread.decoder
    return found


def _upright(planes: Tensor, turn: int) -> Tensor:
    """Turn planes (C, H, W) as EXIF says."""
    exchanged, reversed = changes(turn)
    return (planes.swapaxes(-1, -2) if exchanged else planes).flip(reversed)
