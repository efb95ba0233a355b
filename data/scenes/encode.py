"""Arrays to image files, by suffix; the depth of the array is the depth of the file."""

from __future__ import annotations

import gzip
import io

import numpy as np
import numpy.typing as npt

# GeoTIFF: 10 m pixels in UTM zone 32N, upper left corner at (500000 m, 5400000 m), 0 is nodata.
_PIXEL_SCALE = (33550, "d", 3, (10.0, 10.0, 0.0), True)
_TIE_POINT = (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 5400000.0, 0.0), True)
_GEO_KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
_KEY_DIRECTORY = (34735, "H", len(_GEO_KEYS), _GEO_KEYS, True)
_GDAL_NODATA = (42113, "s", 0, "0", True)
# NIfTI: pixels of 2 mm in slices of 3 mm; x runs to the patient's left, y to the back, z upwards.
_AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def encode(suffix: str, image: npt.NDArray[np.generic]) -> bytes:
    """A file's bytes: .png and .jpg of (H, W[, C]), .tif of (C, H, W), .npy of any array.

    .gz is compressed NIfTI of (Z, H, W).
    """
    file = io.BytesIO()
    if suffix == ".npy":
        np.save(file, image, allow_pickle=False)
    elif suffix == ".tif":
        _write_geotiff(file, image)
    elif suffix == ".gz":
        _write_nifti(file, image)
    else:
        _write_picture(file, image, suffix)
    return file.getvalue()


def _write_picture(file: io.BytesIO, image: npt.NDArray[np.generic], suffix: str) -> None:
    """bool becomes 1-bit, uint8 gray, RGB or RGBA by its shape, uint16 16-bit gray."""
    from PIL import Image

    picture = Image.fromarray(image)
    if suffix == ".jpg":
        picture.save(file, format="JPEG", quality=88)
    else:
        picture.save(file, format="PNG", optimize=True)


def _write_geotiff(file: io.BytesIO, image: npt.NDArray[np.generic]) -> None:
    """Bands first, deflated in strips, with the tags that GIS programs read."""
    import tifffile

    tifffile.imwrite(
        file,
        image,
        photometric="minisblack",
        planarconfig="separate",
        compression="deflate",
        predictor=True,
        rowsperstrip=64,
        metadata=None,
        software=False,
        extratags=[_PIXEL_SCALE, _TIE_POINT, _KEY_DIRECTORY, _GDAL_NODATA],
    )


def _write_nifti(file: io.BytesIO, image: npt.NDArray[np.generic]) -> None:
    """Compressed without a time, so that the bytes are the same on every run."""
    import nibabel as nib

    volume = nib.Nifti1Image(image.T, _AFFINE)
    volume.header.set_xyzt_units("mm")
    file.write(gzip.compress(volume.to_bytes(), mtime=0))
