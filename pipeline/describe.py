"""Plans, output folders and machines in words: what `plan`, `status` and `doctor` say."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import store
from pipeline.bank.compile import Output
from pipeline.bank.explain import Explained, explain
from pipeline.bank.expr import Conv, Node, Spectral, nodes_of, reach_of
from pipeline.boundary import Boundary
from pipeline.budget import READER
from pipeline.diskspace import Space, space_of, together, waiting_for_space
from pipeline.errors import InputError
from pipeline.filters.simoncelli import SimoncelliBand
from pipeline.journal import last_run
from pipeline.remote import shared
from pipeline.storage import Place
from pipeline.survey import Survey
from pipeline.types import ImageInfo, Ints
from pipeline.version import PACKAGES, __version__


@dataclass(frozen=True)
class Estimate:
    """What a run will need and leave, from headers alone.

    pictures: previews, and GeoTIFF and NIfTI files; bytes: of all files at most; memory: of all
    processes; at_once: threads that compute, or processes.
    """

    rows: int
    map_bytes: int
    pictures: int
    bytes: int
    memory: int
    at_once: int
    halo: tuple[int, ...]


def estimate(survey: Survey) -> Estimate:
    """Predict rows, files, bytes and memory of the shards still to do."""
    plan, config = survey.plan, survey.plan.config
    png = config.output.png
    apart = config.run.executor == "processes"
    at_once = plan.processes(survey.sources) if apart else plan.parallel(survey.sources)
    part = shared(plan, at_once).plan if apart else plan
    rows = lane = held = pictures = drawn = 0
    spaces: list[Space] = []
    halos: set[tuple[int, ...]] = set()
    for source in (source for source in survey.sources if source.failure is None):
        info = source.header
        each = sum(map(len, plan.bands_of(info).values()))
        halos.update(part.bank.halo for part in plan.banks(info))
        rows += each
        lane = max(lane, part.bytes_needed(info) * part.batch_size(info))
        held = max(held, part.bytes_held(info))
        spaces.append(space_of(plan, source))
        if png is not None and source.drawn:
            if png.what != "sheet":
                pictures += each
                drawn += each * min(source.pixels, png.size**2) * png.depth // 16
            if png.what != "maps":
                pictures += 1
                drawn += 40_000 * each
    widest = max(halos, key=sum, default=())
    tables = 8 * rows * (3 + len(config.statistics))
    space = together(spaces)
    processes = at_once if apart else 1  # which compute
    memory = READER * apart + processes * (part.standing + held) + at_once * lane
    return Estimate(
        rows,
        space.maps,
        pictures + space.count,
        tables + space.maps + drawn + space.files,
        memory,
        at_once,
        widest,
    )


def warnings_of(survey: Survey) -> list[str]:
    """Say which rows of the table are about no image, and what will be empty or nothing but 0."""
    images: dict[ImageInfo, list[str]] = {}
    for source in survey.sources:
        if source.failure is None:
            images.setdefault(source.header, []).append(source.key)
    empty: dict[tuple[str, str], list[str]] = {}
    bands: dict[str, tuple[SimoncelliBand, ...]] = {}
    for info, keys in images.items():
        for output in (o for part in survey.plan.banks(info) for o in part.bank.outputs):
            if output.name not in bands:
                bands[output.name] = _bands_of(output.node)
            why = _why_empty(output, bands[output.name], info.shape)
            if why is not None:
                empty.setdefault((output.name, why), []).extend(keys)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (name, why), keys in empty.items():
        alike.setdefault((why, tuple(keys)), []).append(name)
    found = [f"{_some(names)} in {_some(keys)}: {why}" for (why, keys), names in alike.items()]
    return [*_idle(survey), *found]


def _late(survey: Survey) -> Iterable[str]:
    if survey.postponed:
        yield waiting_for_space(survey.plan, survey.postponed)


def _idle(survey: Survey) -> Iterable[str]:
    """Say how many rows of the table are about no image, and the first of them."""
    table = survey.plan.config.input.table
    if table is not None and survey.idle:
        are = "is" if len(survey.idle) == 1 else "are"
        text = f"{len(survey.idle)} of {len(table.rows)} rows of {table.name} {are} about no image"
        yield f"{text}: {_some([f'line {line}' for line in survey.idle])}"


def _why_empty(output: Output, bands: Iterable[SimoncelliBand], shape: Ints) -> str | None:
    reaches = zip(shape, output.reach, strict=True)
    if output.boundary.mode == "valid" and any(
        n <= before + after for n, (before, after) in reaches
    ):
        return "no pixel, as boundary: valid leaves none of an image smaller than the kernel"
    if any(band.misses(shape) for band in bands):
        return "nothing but 0, as the wavelet's level lies below the lowest frequency of the image"
    return None


def _bands_of(node: Node) -> tuple[SimoncelliBand, ...]:
    """The wavelet's bands that images as they are, not extended, are filtered by."""
    bands: dict[SimoncelliBand, None] = {}
    for part in nodes_of(node):
        if isinstance(part, Spectral) and (not part.of.pad or part.of.boundary == Boundary("wrap")):
            band = getattr(part.transfer, "base", part.transfer)
            if isinstance(band, SimoncelliBand):
                bands[band] = None
    return tuple(bands)


def _some(names: Sequence[str]) -> str:
    """The first two names, and how many more there are."""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


def describe_survey(survey: Survey) -> dict[str, Any]:
    """What `plan` prints; everything in it can be JSON."""
    plan, todo, needed = survey.plan, survey.todo, estimate(survey)
    redone = [member for members in todo.redo.values() for member in members]
    failures = [
        {"image": s.key, "kind": s.failure.kind, "error": s.failure.error}
        for s in survey.sources
        if s.failure is not None
    ]
    return {
        "output": str(plan.root),
        "digest": plan.digest,
        "device": plan.device,
        "listed_files": len(survey.listing.members),
        "skipped_files": dict(survey.listing.skipped),
        "new": len(todo.new),
        "changed": len(redone) - todo.retried,
        "touched": sum(len(members) for members in todo.touched.values()),
        "retry": todo.retried,
        "done": todo.done,
        "waiting": len(survey.listing.waiting),
        "vanished": len(todo.vanished),
        "images": len(survey.sources),
        "shards": len(survey.shards),
        "rows": needed.rows,
        "map_bytes": needed.map_bytes,
        "pictures": needed.pictures,
        "files": needed.pictures + len(survey.shards) * (3 + (plan.config.output.maps != "none")),
        "output_bytes": needed.bytes,
        "processes" if plan.config.run.executor == "processes" else "threads": needed.at_once,
        "memory_bytes": needed.memory,
        "halo": list(needed.halo),
        "responses": _responses(survey),
        "failures": failures,
        "warnings": [*_late(survey), *warnings_of(survey)],
    }


_FUSED = {"engine": "fused", "rank": None, "ns_per_pixel": None}
"""Computed on a GPU together with its statistics; costs are those of a core."""


def _responses(survey: Survey) -> list[dict[str, Any]]:
    plan = survey.plan
    usable = next((s.header for s in survey.sources if s.failure is None), None)
    banks = plan.banks(usable) if usable else ()
    found = {output.name: output.reach for part in banks for output in part.bank.outputs}
    around = plan.boundary(usable) if usable else plan.config.boundary
    chosen = {name: how for part in banks for name, how in explain(part.bank).items()}
    fused = {
        name
        for part in (plan.together(usable) if usable else ())
        for group in part.groups
        for name in group.names
    }
    rows = []
    for response in plan.responses:
        reach = found.get(response.name)
        if reach is None:  # nothing to do: as for pixels of size 1
            node = plan.example(response)
            ndim = next((len(n.kernel.shape) for n in nodes_of(node) if isinstance(n, Conv)), 2)
            reach = reach_of(node, ndim)
        rows.append(
            {
                "filter": response.name,
                "id": response.id,
                "boundary": str(response.filter.boundary or around),
                "reach": " x ".join(f"-{a}+{b}" for a, b in reach),
                **_computed(chosen.get(response.name)),
                **(_FUSED if response.name in fused else {}),
            }
        )
    return rows


def _computed(found: Explained | None) -> dict[str, Any]:
    """Engine, rank and cost; null where there is no image to plan for."""
    if found is None:
        return {"engine": None, "rank": None, "ns_per_pixel": None}
    return {"engine": found.engine, "rank": found.rank, "ns_per_pixel": round(found.cost, 2)}


def describe_status(root: Place) -> dict[str, Any]:
    """What `status` prints. Raises InputError where there are no results."""
    if not (root / "images").is_dir() and not (root / "run.json").is_file():
        message = f"{str(root)!r} holds no results; name the output.path of a run"
        raise InputError(message)
    state = store.load(root)
    rows = [row for rows in state.shards.values() for row in rows]
    failed = [row for row in rows if row.status == "failed"]
    versions = Counter(row.version for row in rows)
    warnings = []
    if len(versions) > 1:
        listed = ", ".join(f"{count} by {version}" for version, count in versions.items())
        warnings.append(f"rows were computed by different versions: {listed}")
    last = last_run(root)
    if last.get("state") == "killed":
        warnings.append(f"process {last['pid']} was killed as it ran; the next run goes on there")
    if state.unsealed:
        warnings.append(f"damaged images parts, whose rows are missing: {len(state.unsealed)}")
    if state.damaged:
        warnings.append(f"damaged shards, done again by the next run: {len(state.damaged)}")
    return {
        "output": str(root),
        "digest": state.digest,
        "device": state.device,
        "images": len(rows),
        "done": len(rows) - len(failed),
        "failed": len(failed),
        "shards": len(state.shards),
        **_last_run(last),
        "failures": [{"image": r.image, "kind": r.kind, "error": r.error} for r in failed],
        "warnings": warnings,
    }


def _last_run(record: Mapping[str, Any]) -> dict[str, Any]:
    if not record:
        return {"last_state": "unknown: run.json is missing or damaged"}
    names = ("state", "exit_code", "error", "started", "ended", "pid", "host")
    return {f"last_{name}": record[name] for name in names if record.get(name) is not None}


def examine_machine() -> dict[str, str]:
    """What `doctor` prints: versions, processors, memory, limits, device, extras."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0
    found = {
        "filterbank": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.1f} GiB",
        "/dev/shm": f"{shared / 2**20:.0f} MiB"
        + (" (small: use --workers 0)" if shared < 2**27 else ""),
        "open files": f"{files}" + (" (low: ulimit -n 1024)" if files < 256 else ""),
        "nvidia driver": "yes" if Path("/proc/driver/nvidia/version").exists() else "no",
    }
    for package in ("torchvision", *PACKAGES):
        found[package] = importlib.metadata.version(package)
    for extra, package in (("geo", "rasterio"), ("medical", "pydicom")):
        have = importlib.util.find_spec(package) is not None
        found[f"extra {extra}"] = "installed" if have else f"pip install 'filterbank[{extra}]'"
    return found
