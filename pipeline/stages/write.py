"""Results -> the files of one shard, committed together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import pipeline.writers.parquet as tables
from pipeline.commit import Staging
from pipeline.errors import ReadError
from pipeline.fingerprint import fingerprint, stamp
from pipeline.keys import PICTURES, escape, picture_folder
from pipeline.plan import Plan
from pipeline.stages.filter import Result
from pipeline.stages.items import item_of
from pipeline.stages.losses import bereft
from pipeline.stages.mapfiles import MapFiles
from pipeline.stages.read import Loaded, is_as_listed
from pipeline.statistics import COLUMNS
from pipeline.storage import Place, sizes
from pipeline.types import Failure, Georeference, Shard, ShardReport, Source
from pipeline.version import __version__, versions
from pipeline.writers.geoparquet import METADATA as GEOPARQUET

KEYS = ("image", "band", "region", "filter")


class Sink:
    """Collects one shard's results and commits them, the images part last: it says what is done.

    Loads must arrive in the order of keys where maps are kept. room: where to stage the files, for
    the driver to commit; none: they are committed here.
    """

    def __init__(self, plan: Plan, shard: Shard, room: str = "") -> None:
        self.plan, self.root, self.shard = plan, plan.root, shard
        self.part = f"part-{shard.id}.parquet"
        self.staging = Staging(self.root, shard.id, room)
        self.metadata = footer(plan)
        self._rows: list[Mapping[str, list[Any]]] = []
        self._regions: list[Mapping[str, Any]] = []
        self._failures: dict[str, Failure] = {
            s.key: s.failure for s in shard.sources if s.failure is not None
        }
        self._fingerprints: dict[str, str] = {}
        self._traces: tuple[tuple[str, str], ...] = ()
        self._kept_maps = [] if "maps" in shard.torn else sorted(shard.kept)
        self._maps: tables.MapsWriter | None = None
        if plan.config.output.maps != "none":
            schema = tables.maps_schema(plan.config.output.maps).with_metadata(self.metadata)
            path = self.staging.path(f"maps/{self.part}")
            self._maps = tables.MapsWriter(path, schema)

    def identify(self, loaded: Loaded) -> None:
        """Note what reading said of sources: the hashes of their files, and their failures."""
        self._fingerprints.update(loaded.fingerprints)
        self._failures.update((source.key, failure) for source, failure in loaded.failures)
        self._traces += loaded.traces

    def add(self, results: Sequence[Result]) -> None:
        """Keep the results of one load, whose batches may have parted neighbours."""
        good: dict[str, Result] = {}
        for result in results:
            keys = [source.key for source in result.sources]
            if result.failure is not None:
                self._failures.update(dict.fromkeys(keys, result.failure))
            else:
                self._rows.append(result.rows)
                self._regions += [row for key in keys for row in result.regions[key]]
                good.update(dict.fromkeys(keys, result))
        for key in sorted(good):
            if self._maps is not None:
                self._copy_maps(before=key)
                self._maps.add(key, good[key].maps[key])
            for name, data in good[key].pictures.get(key, ()):
                self.staging.write(name, data)
            for name, path in good[key].files.get(key) or self._map_files(key, good[key]):
                path.replace(self.staging.path(name))
                self.staging.add(name)
            for name, data in self._item(key, good[key]):
                self.staging.write(name, data)

    def _item(self, key: str, result: Result) -> Iterator[tuple[str, bytes]]:
        """The STAC item of an image, if there is one."""
        (source,) = (source for source in result.sources if source.key == key)
        if (item := item_of(self.plan, source, self.part)) is not None:
            yield item

    def _map_files(self, key: str, result: Result) -> Iterator[tuple[str, Path]]:
        """Make the files of an image's maps."""
        output = self.plan.config.output
        if output.geotiff is None and output.nifti is None:
            return
        (source,) = (source for source in result.sources if source.key == key)
        files = MapFiles(self.plan, source, self.staging.folder)
        files.add(result.maps[key])
        yield from files.close()

    def commit(self) -> ShardReport:
        """Write the tables and give every file its final name."""
        if self._maps is not None:
            self._copy_maps(before=None)
            self._maps.close()
            self.staging.add(f"maps/{self.part}")
        self._table("statistics", self._statistics(), list(KEYS))
        regions = pa.Table.from_pylist(self._regions, schema=tables.REGIONS)
        self._table("regions", regions, ["image", "region"], GEOPARQUET)
        old = self._old_files()
        kept, lost = self._pictures(old)
        files = {name: old[name] for name in kept} | self.staging.files
        self._images(files, lost)
        self.staging.commit(remove=set(old) - set(files))
        return self._report()

    # ------------------------------------------------------------ tables
    def _table(
        self,
        name: str,
        table: pa.Table,
        keys: list[str],
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write one part: the stored rows of kept images and the new ones, sorted by keys."""
        table = pa.concat_tables([*self._stored(name, table.schema), table])
        table = table.sort_by([(key, "ascending") for key in keys])
        final = f"{name}/{self.part}"
        table = table.replace_schema_metadata({**self.metadata, **metadata})
        tables.write_table(self.staging.path(final), table)
        self.staging.add(final)

    def _stored(self, name: str, schema: pa.Schema) -> list[pa.Table]:
        path = self.root / name / self.part
        if not self.shard.kept or name in self.shard.torn or not path.exists():
            return []
        table = tables.read_table(path)
        chosen = pc.is_in(table.column("image"), pa.array(self.shard.kept, pa.string()))
        return [table.filter(chosen).cast(schema)]

    def _statistics(self) -> pa.Table:
        schema = statistics_schema(self.plan)
        columns = []
        for name in schema.names:
            parts = [rows[name] for rows in self._rows]
            flat: Any = [value for part in parts for value in part]
            if schema.field(name).type == pa.float64():
                flat = np.concatenate(flat) if flat else np.empty(0)
                columns.append(pa.array(flat, pa.float64(), mask=np.isnan(flat)))
            else:
                columns.append(pa.array(flat, schema.field(name).type))
        return pa.table(columns, schema=schema)

    def _images(
        self, files: Mapping[str, tuple[int, str]], lost: Mapping[str, Sequence[str]]
    ) -> None:
        rows = [self._image(source) for source in self.shard.sources]
        schema = tables.images_schema(self.plan.config.input.columns)
        table = pa.Table.from_pylist(rows, schema=schema)
        stored = self._stored("images", table.schema)
        if self.shard.torn or lost:
            stored = [bereft(some, self.shard.torn, lost) for some in stored]
        table = pa.concat_tables([*stored, table])
        table = table.sort_by("image").replace_schema_metadata(self.metadata)
        final = f"images/{self.part}"
        listed = {"filterbank:files": json.dumps(files, sort_keys=True)}
        tables.write_sealed(self.staging.path(final), table, listed)
        self.staging.add(final)

    def _image(self, source: Source) -> dict[str, Any]:
        failure, info = self._failures.get(source.key), source.info
        row: dict[str, Any] = {
            "image": source.key,
            **dict(source.fields),
            "files": [escape(member.name) for member in source.files],
            "status": "failed" if failure else "done",
            "kind": failure.kind if failure else None,
            "error": failure.error if failure else None,
            "reader": source.reader or None,
            "bytes": sum(member.bytes for member in source.files),
            "mtime_ns": stamp(source.files, source.given),
            "fingerprint": self._fingerprint(source),
            "version": __version__,
            "device": self.plan.device,
        }
        if info is not None:
            row |= {
                "shape": info.shape,
                "bands": info.bands,
                "dtype": info.dtype,
                "spacing": info.grid.spacing if info.grid.unit else None,
                "value_unit": None if failure else self.plan.prepared(info).value_unit,
            }
            if isinstance(info.geo, Georeference):
                row |= {"crs": info.geo.crs, "transform": info.geo.transform}
        return row

    def _fingerprint(self, source: Source) -> str | None:
        """The hash taken while reading; of a file that was not read for its header, taken now.

        None for one that has changed since: what failed was not what is there.
        """
        if source.key in self._fingerprints:
            return self._fingerprints[source.key]
        try:
            found = fingerprint(source.files, source.given)
            return found if is_as_listed(source) else None
        except ReadError:
            return None

    def _copy_maps(self, before: str | None) -> None:
        """Copy stored maps of kept images up to a key, so that the part stays sorted."""
        path = self.root / "maps" / self.part
        while self._kept_maps and (before is None or self._kept_maps[0] < before):
            image = self._kept_maps.pop(0)
            for table in _maps_of(path, image):
                assert self._maps is not None
                self._maps.copy(table)

    def _old_files(self) -> dict[str, tuple[int, str]]:
        path = self.root / "images" / self.part
        if not path.exists():
            return {}
        stored = json.loads(tables.footer_of(path).get("filterbank:files", "{}"))
        return {name: (size, digest) for name, (size, digest) in stored.items()}

    def _pictures(
        self, old: Mapping[str, tuple[int, str]]
    ) -> tuple[list[str], dict[str, list[str]]]:
        """The pictures and files of maps of kept images, and of which kinds some are damaged, by
        image: those go, for nobody can make them again.
        """
        kept: list[str] = []
        lost: dict[str, list[str]] = {}
        for key, kind in product(self.shard.kept, PICTURES):
            folder = picture_folder(key, kind)
            if names := [name for name in old if name.startswith(f"{folder}/")]:
                size_of = sizes(self.root / folder)
                whole = [n for n in names if size_of(n.removeprefix(f"{folder}/")) == old[n][0]]
                kept += whole
                if len(whole) < len(names):
                    lost.setdefault(key, []).append(kind)
        return kept, lost

    def _report(self) -> ShardReport:
        good = [s for s in self.shard.sources if s.key not in self._failures]
        return ShardReport(
            self.shard.id,
            len(good),
            tuple((key, f.kind, f.error) for key, f in sorted(self._failures.items())),
            sum(source.pixels for source in good),
            sum(size for size, _ in self.staging.files.values()),
            self._traces,
        )


def _maps_of(path: Place, image: str) -> Iterator[pa.Table]:
    """Stored maps of one image, a row group at a time."""
    if path.exists():
        for group in tables.row_groups_of(path, image):
            yield group.filter(pc.equal(group.column("image"), image))


def statistics_schema(plan: Plan) -> pa.Schema:
    """The statistics table of a plan, with what each column means."""
    return tables.statistics_schema(
        {
            name: {"unit": c.unit, "formula": c.formula, **({"ibsi": c.ibsi} if c.ibsi else {})}
            for name, c in ((name, COLUMNS[name]) for name in plan.config.statistics)
        }
    )


def footer(plan: Plan) -> dict[str, str]:
    """What every part says of itself; nothing in it depends on time, host or run."""
    return {
        "filterbank:format": str(tables.FORMAT),
        "filterbank:digest": plan.digest,
        "filterbank:config": plan.document,
        "filterbank:versions": json.dumps(versions(), sort_keys=True),
        "filterbank:device": plan.device,
    }
