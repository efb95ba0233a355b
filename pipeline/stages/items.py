"""Scenes -> their STAC items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.config.schema import matches
from pipeline.types import Georeference
from pipeline.writers import geotiff, stac
from pipeline.writers.stac import Asset

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.types import Source

TIME = "datetime"
"""The field of names, or column of the table, that says when a scene was taken."""

_TABLES = {
    "images": "what was read, and what is done",
    "statistics": "statistics of every response, band and region",
    "regions": "where responses were measured",
}


def item_of(plan: Plan, source: Source, part: str) -> tuple[str, bytes] | None:
    """The item of an image that is done: its path below the output folder, and the file.

    part: the name of the files of its shard. None where the config asks for no items, or the image
    lies nowhere on the ground.
    """
    info = plan.prepared(source.header)
    if not plan.config.output.stac or not isinstance(info.geo, Georeference):
        return None
    assets = dict([*_maps(plan, source), *_tables(plan, part)])
    data = stac.item(
        source.key,
        info.shape,
        info.geo,
        assets,
        time=dict(source.fields).get(TIME),
        about={"filterbank:digest": plan.digest[:16]},
    )
    return stac.name_of(source.key), data


def _maps(plan: Plan, source: Source) -> Iterator[tuple[str, Asset]]:
    """The GeoTIFF files, by the ids of responses."""
    wanted = plan.config.output.geotiff
    if wanted is None:
        return
    labels = plan.bands_of(source.header)
    for response in plan.responses:
        if matches(response.name, wanted.filters):
            path, bands = geotiff.name_of(source.key, response.id), labels[response.name]
            yield (
                response.id,
                Asset(path, response.name, stac.GEOTIFF, "data", bands, wanted.dtype),
            )


def _tables(plan: Plan, part: str) -> Iterator[tuple[str, Asset]]:
    """The tables; no id of a response holds a hyphen."""
    tables = dict(_TABLES)
    if plan.config.output.maps != "none":
        tables["maps"] = "pixels of every response"
    for name, title in tables.items():
        yield f"table-{name}", Asset(f"{name}/{part}", title, stac.PARQUET, "metadata")
    yield "table-filters", Asset("filters.parquet", "every response", stac.PARQUET, "metadata")
