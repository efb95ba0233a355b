"""Maps -> files of other formats: the GeoTIFF and NIfTI files of one image, as its maps come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.schema import matches
from pipeline.placement import placement_of
from pipeline.types import Georeference, Region
from pipeline.writers import geotiff, nifti

if TYPE_CHECKING:
    from pipeline.plan import Plan, ResponseInfo
    from pipeline.stages.filter import MapRow
    from pipeline.types import Source


class MapFiles:
    """The files that the config asks for of one image; in the end call `close` or `discard`.

    There is one for each response that its globs choose, also where no pixel of it is valid.
    Images of more than two axes have no GeoTIFF files. They are made in `folder`, which exists.
    """

    def __init__(self, plan: Plan, source: Source, folder: Path) -> None:
        self.plan, self.source, self.folder = plan, source, folder
        self.info = plan.prepared(source.header)
        self._labels = plan.bands_of(source.header)
        self._tiffs: dict[str, tuple[str, geotiff.GeoTiff]] = {}
        self._niftis: dict[tuple[str, str], tuple[str, nifti.Nifti]] = {}
        for i, response in enumerate(plan.responses):
            self._open_tiff(response, folder / f"{i}.tif")
            self._open_niftis(response, f"{i}")

    def _open_tiff(self, response: ResponseInfo, path: Path) -> None:
        wanted, place = self.plan.config.output.geotiff, self.info.geo
        if wanted is None or len(self.info.shape) != 2:
            return
        if matches(response.name, wanted.filters):
            file = geotiff.GeoTiff(
                path,
                self.info.shape,
                self._labels[response.name],
                place if isinstance(place, Georeference) else None,
                self._tags(response),
                wanted.dtype,
            )
            self._tiffs[response.name] = geotiff.name_of(self.source.key, response.id), file

    def _open_niftis(self, response: ResponseInfo, stem: str) -> None:
        wanted = self.plan.config.output.nifti
        if wanted is None or not matches(response.name, wanted.filters):
            return
        place = placement_of(self.info)
        for c, band in enumerate(self._labels[response.name]):
            file = nifti.Nifti(
                self.folder / f"{stem}-{c}.nii.gz",
                self.info.shape,
                self.info.grid,
                place,
                {**self._tags(response), "band": band},
            )
            name = nifti.name_of(self.source.key, band, response.id)
            self._niftis[response.name, band] = name, file

    def _tags(self, response: ResponseInfo) -> dict[str, str]:
        digest = self.plan.digest[:16]
        return {"image": self.source.key, "filter": response.name, "digest": digest}

    def add(self, rows: Iterable[MapRow]) -> None:
        """Keep maps, or tiles of maps, in any order."""
        for band, name, origin, values in rows:
            region = Region(origin, tuple(a + n for a, n in zip(origin, values.shape, strict=True)))
            if not region.size:
                continue
            if name in self._tiffs:
                self._tiffs[name][1].put(region, self._labels[name].index(band), values)
            if (name, band) in self._niftis:
                self._niftis[name, band][1].put(region, values)

    def close(self) -> Iterator[tuple[str, Path]]:
        """Finish one file after the other: its path below the output folder, and where it lies."""
        for name, file in self._files:
            file.close()
            yield name, file.path

    def discard(self) -> None:
        """Leave nothing behind."""
        for _, file in self._files:
            file.discard()

    @property
    def _files(self) -> Iterator[tuple[str, geotiff.GeoTiff | nifti.Nifti]]:
        yield from self._tiffs.values()
        yield from self._niftis.values()


def require(plan: Plan) -> None:
    """Raise MissingDependency where the config asks for files that nothing here can write."""
    if plan.config.output.geotiff is not None:
        geotiff.require()
    if plan.config.output.nifti is not None:
        nifti.require()


@dataclass(frozen=True, slots=True)
class Needs:
    """Files of an image, the bytes they take at most, and those that making them takes."""

    files: int = 0
    kept: int = 0
    meanwhile: int = 0


def needs(plan: Plan, source: Source) -> Needs:
    """What the files of an image will need."""
    shape, output = plan.prepared(source.header).shape, plan.config.output
    bands = {name: len(labels) for name, labels in plan.bands_of(source.header).items()}
    files = kept = meanwhile = 0
    if (tiff := output.geotiff) is not None and len(shape) == 2:
        chosen = [n for name, n in bands.items() if matches(name, tiff.filters)]
        files += len(chosen)
        kept += sum(geotiff.bytes_kept(shape, n, tiff.dtype) for n in chosen)
        meanwhile += geotiff.bytes_needed(shape, chosen, tiff.dtype)
    if output.nifti is not None:
        volumes = sum(n for name, n in bands.items() if matches(name, output.nifti.filters))
        files += volumes
        kept += volumes * nifti.bytes_kept(shape)
        meanwhile += nifti.bytes_needed(shape, volumes)
    return Needs(files, kept, meanwhile)
