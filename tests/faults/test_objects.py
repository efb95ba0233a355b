"""Results in an object store are those of a local folder, whatever happens to who writes them."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from command import Said, draw, filterbank, tree, write_config
from fsspec.implementations.memory import MemoryFileSystem
from objectstore import CREDENTIALS, ObjectStore, running, start
from once import Once

from pipeline import fetch, lease, plan, upload
from pipeline.commit import Staging, adopt, close_room, damage, recover
from pipeline.config.schema import Input, Limits
from pipeline.errors import Locked, ReadError, WriteError
from pipeline.fetch import fetched
from pipeline.lock import locked
from pipeline.logfile import Log
from pipeline.objects import list_objects
from pipeline.output import open_output
from pipeline.pages import open_headers
from pipeline.readers import tiff
from pipeline.stages.boxes import read_box
from pipeline.storage import ObjectPath, place, private, scratch, sizes
from pipeline.store import load
from pipeline.types import Region, Source
from pipeline.verify import verify

STEP = int(os.environ.get("FILTERBANK_CUT_STEP", "21"))
"""Changes of the store from one death to the next: odd, so that every other one is made."""
TIMED = ("run.json", "log.jsonl", "log.1.jsonl", ".lock/")
"""The only objects that may depend on time, host or who wrote."""


# ---------------------------------------------------------------- without a server
@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, in which whatever ends well leaves nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def root(request: pytest.FixtureRequest) -> ObjectPath:
    """A place of its own in this process's memory."""
    found = place(f"memory://tests/{hash(request.node.name):x}")
    assert isinstance(found, ObjectPath)
    return found


def staged(root: ObjectPath, room: str = "", **files: bytes) -> Staging:
    staging = Staging(root, "shard", room)
    for name, data in files.items():
        staging.write(f"{name}/part", data)
    return staging


def committed(root: ObjectPath) -> dict[str, bytes]:
    return {
        name: (root / name).read_bytes() for name in root.sizes() if not name.startswith(".lock")
    }


def test_a_commit_puts_what_was_staged_and_removes_what_is_to_go(root: ObjectPath) -> None:
    with locked(root):
        (root / "png/old").write_bytes(b"old")
        staged(root, maps=b"m", images=b"i").commit(remove=["png/old"])
        assert committed(root) == {"maps/part": b"m", "images/part": b"i"}
        assert not scratch(root).exists()


def test_what_a_worker_stages_waits_for_the_driver(root: ObjectPath) -> None:
    with locked(root):
        staged(root, room="one", images=b"1").commit()
        staged(root, room="two", images=b"2").commit()
        assert not any(name.startswith("images") for name in root.sizes())
        close_room(root, "two")
        adopt(root, "one", "shard")
        assert committed(root) == {"images/part": b"1"}


def test_only_who_creates_an_object_first_has_created_it(root: ObjectPath) -> None:
    assert (root / "a").create(b"mine")
    assert not (root / "a").create(b"yours")
    assert (root / "a").create(b"mine"), "an answer that was lost is asked for again"
    assert (root / "a").read_bytes() == b"mine"


def test_a_second_driver_is_told_who_holds_the_place(root: ObjectPath) -> None:
    said = rf"in use by process {os.getpid()} on .*--if-locked"
    with locked(root), pytest.raises(Locked, match=said), locked(root):
        pass
    with locked(root):  # released
        pass


def test_a_store_that_does_not_answer_has_not_said_that_nothing_is_there(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "log.jsonl").write_bytes(b"before\n")

    def refuse(*_: object, **__: object) -> None:
        raise TimeoutError

    log = Log(root)
    with monkeypatch.context() as cut:
        for name in ("info", "cat_file", "ls", "find", "open"):
            cut.setattr(MemoryFileSystem, name, refuse)
        for ask in (
            root.exists,
            root.is_file,
            lambda: sizes(root),
            lambda: verify(root),
            lambda: load(root),
            lambda: log.add("end"),
            lambda: damage(root / "log.jsonl", 7, ""),
        ):
            with pytest.raises(WriteError, match="refuses, or does not answer"):
                ask()
    log.add("end")
    assert (root / "log.jsonl").read_bytes().startswith(b"before\n{")


def test_pictures_stay_where_a_store_does_not_answer(
    images: Path, root: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "unused")
    arguments = "run", config, "--output", root, "--workers", 0
    assert filterbank(*arguments).code == 0
    kept = {name for name in root.sizes() if name.startswith("png/0.png/")}
    draw(images / "1.png", seed=11, size=8)
    real = MemoryFileSystem.info

    def refuse(self: MemoryFileSystem, path: str, **named: object) -> object:
        if path.endswith(".png"):
            raise TimeoutError
        return real(self, path, **named)

    with monkeypatch.context() as failing:
        failing.setattr(MemoryFileSystem, "info", refuse)
        filterbank(*arguments)
    assert filterbank(*arguments).code == 0
    assert kept
    assert kept <= root.sizes().keys()


def others(root: ObjectPath, **holder: object) -> None:
    """Let a process of another machine hold a place."""
    written = json.dumps({"pid": 7, "host": "elsewhere", "machine": "other", **holder})
    (root / ".lock/000041").write_bytes(written.encode())


def test_a_lease_that_ran_out_is_taken_over_and_one_that_did_not_is_not(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    others(root)
    with pytest.raises(Locked, match="process 7 on elsewhere, heard of 0 s ago"), locked(root):
        pass
    monkeypatch.setattr(lease, "TIME_TO_LIVE", 0.05)
    time.sleep(0.1)
    with locked(root):
        assert lease.number_of(root) == 42


def test_a_process_of_this_machine_that_is_gone_holds_nothing(root: ObjectPath) -> None:
    others(root, machine=lease._machine(), began="1", pid=2**22 + 1)
    with locked(root):
        assert lease.number_of(root) == 42


def test_who_lost_the_lease_commits_nothing(root: ObjectPath) -> None:
    with locked(root):
        staging = staged(root, images=b"late")
        others(root)
        with pytest.raises(Locked, match=r"took .* over"):
            staging.commit()
        assert not any(name.startswith("images") for name in root.sizes())


@pytest.mark.parametrize("pause", ["stage", "check", "create", "copy", "remove"])
def test_who_is_taken_over_at_any_moment_of_a_commit_leaves_whole_sets(
    pause: str, root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process had been asleep: the other one recovers, and commits another result."""

    def take_over() -> None:
        monkeypatch.undo()
        assert lease._path(root, 2).create(b"{}")
        with monkeypatch.context() as other:
            other.setitem(lease._numbers, root, 2)
            recover(root)
            staged(root, maps=b"new", png=b"new", images=b"new").commit()

    def after(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            found = real(*arguments, **named)
            take_over()
            return found

        return call

    where = {
        "stage": (upload, "stage"),
        "check": (lease, "check"),
        "create": (ObjectPath, "create"),
        "copy": (ObjectPath, "copy"),
        "remove": (ObjectPath, "unlink"),
    }[pause]
    with locked(root):
        staging = staged(root, maps=b"old", images=b"old")
        monkeypatch.setattr(*where, after(getattr(*where)))
        with pytest.raises(Locked):
            staging.commit(remove=["png/old", "png/part"])
        monkeypatch.setitem(lease._numbers, root, 2)
        recover(root)
        assert committed(root) == dict.fromkeys(("maps/part", "png/part", "images/part"), b"new")


def give_up(root: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another run take over and die when it has given a set up; then the first one goes on."""
    real = lease.check

    def die(_: ObjectPath) -> None:
        raise KeyboardInterrupt

    def check(root: ObjectPath) -> None:
        real(root)
        monkeypatch.setattr(lease, "check", real)
        assert lease._path(root, 2).create(b"{}")
        with monkeypatch.context() as other:
            other.setattr(ObjectPath, "clear", die)
            with pytest.raises(KeyboardInterrupt):
                recover(root)

    with locked(root):
        staging = staged(root, images=b"late")
        monkeypatch.setattr(lease, "check", check)
        with pytest.raises(Locked, match="gave shard up"):
            staging.commit()
        assert not any(name.startswith("images") for name in root.sizes())


def test_what_another_run_gave_up_is_not_committed(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up(root, monkeypatch)


def test_a_journal_that_is_put_without_a_condition_is_caught_by_that(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:

    def create(self: ObjectPath, data: bytes) -> bool:
        self.write_bytes(data)
        return True

    monkeypatch.setattr(ObjectPath, "create", create)
    monkeypatch.setattr(lease, "_probe", lambda _: 0)  # which refuses such a store
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        give_up(root, monkeypatch)


def test_staged_files_that_something_else_deleted_are_no_lost_lease(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = upload.stage

    def clearing(*arguments: Any) -> None:
        stage(*arguments)
        (root / ".tmp").clear()

    monkeypatch.setattr(upload, "stage", clearing)
    with locked(root), pytest.raises(WriteError, match="is not there any more"):
        staged(root, images=b"i").commit()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://me:secret@bucket/out", "leave credentials to the store's own"),
        ("ftp://host/out", "ftp:// is no store that filterbank knows"),
        ("s3://bucket/../out", "names no place in a store"),
        ("s3://bucket/[a]", "names no place in a store"),
        ("s3://", "names no place in a store"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, why: str, tmp_path: Path) -> None:
    draw(tmp_path / "in/0.png", seed=0)
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path)
    said = filterbank("run", config, "--output", url)
    assert said.code == 3
    assert why in said.err
    assert "secret" not in said.err


def test_a_store_whose_library_is_missing_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "in/0.png", seed=0)
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    said = filterbank("run", config, "--output", "s3://bucket/out")
    assert said.code == 8
    assert "pip install 'filterbank[s3]'" in said.err


def test_tables_in_memory_are_read_like_those_of_a_folder(
    images: Path, root: ObjectPath, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    assert filterbank("run", config).code == 0
    assert filterbank("run", config, "--output", root, "--workers", 0).code == 0
    (root / "images/notes.txt").write_bytes(b"mine")
    here, there = open_output(tmp_path / "out"), open_output(root)
    assert there.images.equals(here.images)
    assert there.statistics.equals(here.statistics)
    name, image = here.filters.column("filter")[0].as_py(), "0.png"
    assert np.array_equal(there.maps(image, name), here.maps(image, name))


def test_file_urls_are_folders(tmp_path: Path) -> None:
    draw(tmp_path / "in/0.png", seed=0)
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path)
    assert filterbank("run", config, "--output", f"file://{tmp_path}/out").code == 0
    assert open_output(f"file://{tmp_path}/out").images.num_rows == 1


# ---------------------------------------------------------------- a server of its own process
@pytest.fixture(scope="session")
def server(once: Once) -> ObjectStore:
    import s3fs  # noqa: F401 - so that forks need not

    import pipeline.work  # noqa: F401 - torch with it

    return running(once("objectstore", start))


@dataclass
class Bucket:
    """A bucket, and runs that write to it: each in a fork of this process that can be killed."""

    store: ObjectStore
    name: str
    folder: Path
    children: list[int] = field(default_factory=list)

    @property
    def output(self) -> str:
        return f"s3://{self.name}/deep/out"

    def begin(self, *arguments: object, endpoint: str = "", fuse: int = 0) -> int:
        """Start a command in a process of its own, to be killed at one of its requests."""
        return self.fork(lambda: vars(filterbank(*arguments)), endpoint=endpoint, fuse=fuse)

    def fork(self, call: Callable[[], object], *, endpoint: str = "", fuse: int = 0) -> int:
        """Start a function in a process of its own, for which the store is there."""
        child = os.fork()
        if child:
            self.children.append(child)
            return child
        try:
            server = forkserver._forkserver  # type: ignore[attr-defined]
            server._forkserver_pid = server._forkserver_alive_fd = None  # it serves our parent
            self.store.watch(self.name, os.getpid(), fuse)
            os.environ.update(CREDENTIALS, AWS_ENDPOINT_URL=endpoint or self.store.url)
            (self.folder / f"{os.getpid()}.json").write_text(json.dumps(call()))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)

    def told(self, child: int) -> Any:
        """What a function returned; None where its process was killed."""
        os.waitpid(child, 0)
        self.children.remove(child)
        path = self.folder / f"{child}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def end(self, child: int) -> Said | None:
        """What a command said; None where it was killed."""
        told = self.told(child)
        return told and Said(**told)

    def run(self, *arguments: object) -> Said:
        said = self.end(self.begin(*arguments))
        assert said is not None
        return said

    def upload(self, path: Path, key: str) -> None:
        """Put a file, which gets the time of the object."""
        self.store.client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())
        time = self.store.client.head_object(Bucket=self.name, Key=key)["LastModified"].timestamp()
        os.utime(path, (time, time))

    def tree(self) -> dict[str, bytes]:
        """What has to be the same in every run."""
        found = self.store.tree(self.name, "deep/out/")
        return {name: data for name, data in found.items() if not name.startswith(TIMED)}

    def look(self, pruned: Collection[str] = ()) -> None:
        """No table is torn, no row is there twice, and what is done has its statistics.

        As a stranger reads them now. The rows of images that are pruned go table by table.
        """
        seen, done, measured = set(), set(), set()
        for name, data in self.store.tree(self.name, "deep/out/").items():
            table = name.split("/")[0]
            if table in ("images", "statistics", "regions", "maps"):
                read = pq.read_table(io.BytesIO(data), partitioning=None)
                keys = [n for n in ("image", "band", "region", "filter") if n in read.column_names]
                for row in read.select(keys).to_pylist():
                    key = (table, *row.values())
                    assert key not in seen, key
                    seen.add(key)
                if table == "images":
                    done |= {r["image"] for r in read.to_pylist() if r["status"] == "done"}
                if table == "statistics":
                    measured |= set(read.column("image").to_pylist())
        lost = done - measured - set(pruned)
        assert not lost, f"{lost} are said to be done"


@pytest.fixture
def bucket(server: ObjectStore, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    name = f"b{abs(hash(request.node.name)):x}"
    server.client.create_bucket(Bucket=name)
    made = Bucket(server, name, tmp_path)
    yield made
    for child in made.children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(2):
        draw(tmp_path / f"in/{i}.png", seed=i, size=8)
    return tmp_path / "in"


def test_results_in_a_store_are_those_of_a_folder(images: Path, bucket: Bucket) -> None:
    folder = bucket.folder
    draw(images / "a b#%[1]*?.png", seed=7, size=8)
    local = write_config(folder / "l.yaml", images, folder / "out")
    config = write_config(folder / "c.yaml", images, folder / "unused")
    arguments = "run", config, "--output", bucket.output
    for happens in (None, "change"):
        if happens:
            draw(images / "1.png", seed=11, size=8)
            (images / "0.png").unlink()
        flags = ("--prune", "--prune-limit", 100) if happens else ()
        assert filterbank("run", local, *flags).code == 0
        said = bucket.run(*arguments, *flags)
        assert said.code == 0, said
        assert said.out.endswith(f"results in {bucket.output}\n")
        assert bucket.tree() == tree(folder / "out")
    assert not [*private().iterdir()]
    assert bucket.run(*arguments).out.startswith("nothing to do: 2 images are done")
    assert bucket.run("verify", bucket.output).out == "every file is as it was committed\n"
    said = bucket.run("status", bucket.output)
    assert f"output  {bucket.output}" in said.out
    assert bucket.run("export", bucket.output, folder / "wide.csv").code == 0
    assert filterbank("export", folder / "out", folder / "local.csv").code == 0
    assert (folder / "wide.csv").read_bytes() == (folder / "local.csv").read_bytes()
    record = bucket.store.tree(bucket.name, "deep/out/run.json")[""]
    assert json.loads(record)["state"] == "finished"
    everything = b"".join(bucket.store.tree(bucket.name).values())
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode() not in everything


def die_at_requests(
    happens: str, images: Path, bucket: Bucket, requests: Iterable[int] = range(2, 1000, STEP)
) -> None:
    """Kill a driver at some changes of the store, each done or not, in turn, and resume it."""
    config = write_config(bucket.folder / "c.yaml", images, bucket.folder / "out")
    arguments = "run", config, "--prune", "--prune-limit", 100
    before: dict[str, bytes] = {}
    if happens != "fresh":
        assert filterbank(*arguments).code == 0
        assert bucket.run(*arguments, "--output", bucket.output).code == 0
        before = bucket.store.tree(bucket.name)
        draw(images / "1.png", seed=11, size=8)
    (images / "0.png").unlink()
    assert filterbank(*arguments).code == 0
    expected, died = tree(bucket.folder / "out"), 0
    for at in requests:
        bucket.store.fill(bucket.name, before)
        child = bucket.begin(*arguments, "--output", bucket.output, fuse=at)
        if bucket.end(child) is not None:
            break
        died += 1
        bucket.look(pruned={"0.png"} if before else ())
        said = bucket.run(*arguments, "--output", bucket.output)
        assert said.code == 0, said
        assert bucket.tree() == expected
    else:
        pytest.fail("never came to its end")
    assert died > 1


@pytest.mark.parametrize("happens", ["fresh", "supersede and prune"])
def test_a_driver_killed_at_any_request_leaves_whole_tables_and_is_resumed(
    happens: str, images: Path, bucket: Bucket
) -> None:
    die_at_requests(happens, images, bucket)


def test_a_careless_commit_is_caught_by_these_deaths(
    images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files put at once under their final names, the images part before the others."""

    real = Staging.commit

    def commit(self: Staging, remove: Iterable[str] = ()) -> None:
        if isinstance(self.root, Path):
            return real(self, remove)
        for name in sorted(self.files):
            (self.root / name).write_bytes(self.path(name).read_bytes())
        return None

    monkeypatch.setattr(Staging, "commit", commit)
    with pytest.raises(AssertionError, match="are said to be done"):
        die_at_requests("fresh", images, bucket, range(11, 1000, 4))


def test_images_in_a_store_give_the_rows_of_the_folder(images: Path, bucket: Bucket) -> None:
    folder = bucket.folder
    draw(images / "deep/a b#%[1]*?.png", seed=7, size=8)
    draw(images / "0.png.tif", seed=8, size=8)
    for name in ("0.png", "1.png", "deep/a b#%[1]*?.png"):
        draw(images / f"masks/{Path(name).stem}.png", seed=3, size=8)
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:60])
    (images / "note.txt").write_text("no image")
    client = bucket.store.client

    def upload(path: Path) -> None:
        bucket.upload(path, f"in/{path.relative_to(images)}")

    for path in filter(Path.is_file, images.rglob("*")):
        upload(path)
    client.put_object(Bucket=bucket.name, Key="in/empty/", Body=b"")
    client.put_object(Bucket=bucket.name, Key="inner/2.png", Body=b"another folder's")
    mask = {"path": "masks/{name}.png", "missing": "image"}
    section = {"include": ["**/{name}.png", "*.tif"], "exclude": ["masks/*"], "mask": mask}
    config = write_config(folder / "c.yaml", images, folder / "l", input=section)
    url = f"s3://{bucket.name}/in"
    arguments = "run", config, "--input", url, "--output", folder / "s"
    assert filterbank("run", config).code == 5
    said = bucket.run(*arguments, "--workers", 1)
    assert said.code == 5, said
    assert "failed 1 (1 corrupt)" in said.out
    assert tree(folder / "s") == tree(folder / "l")
    draw(images / "1.png", seed=12, size=8)
    upload(images / "1.png")
    assert filterbank("run", config).code == 5
    assert "done 1, failed 0, unchanged 4" in bucket.run(*arguments).out
    assert tree(folder / "s") == tree(folder / "l")
    assert not [*private().iterdir()]
    assert bucket.run("run", config, "--input", f"s3://{bucket.name}/nothing").code == 4
    said = bucket.run("run", config, "--input", url, "--input", images)
    assert said.code == 4
    assert "mixes folders and URLs" in said.err


SIDE, TILE = 1500, 256


def scene(path: Path, side: int = SIDE) -> None:
    """Write a raster in tiles, of 5 MB, with a mask beside it."""
    import rasterio

    random = np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 1, "tiled": True}
    profile |= {"blockxsize": TILE, "blockysize": TILE}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", dtype="uint16", **profile) as file:
        file.write(random.integers(0, 2**16, (1, side, side), np.uint16))
    with rasterio.open(f"{path}.msk", "w", dtype="uint8", compress="deflate", **profile) as file:
        file.write(np.full((1, side, side), 255, np.uint8) * (np.arange(side) > 200))


def plain(path: Path) -> None:
    """Write a TIFF of 5 MB that lies in the file row by row."""
    tifffile.imwrite(path, np.random.default_rng(1).integers(0, 2**16, (SIDE, SIDE), np.uint16))


@pytest.fixture
def large(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket with two large images."""
    monkeypatch.setattr(tiff, "LARGE", 1 << 20)
    (bucket.folder / "in").mkdir()
    scene(bucket.folder / "in/a.tif")
    plain(bucket.folder / "in/b.tif")
    for path in (bucket.folder / "in").iterdir():
        bucket.upload(path, f"in/{path.name}")
    return bucket


def test_of_a_large_raster_no_more_is_read_than_asked_for(large: Bucket) -> None:
    """Headers are a request or two, a window those of its tiles or rows; local files agree."""
    config, box = Input(path=(f"s3://{large.name}/in",)), Region((1030, 110), (1100, 200))

    def look() -> dict[str, list[int]]:
        sent = {}
        for name, member in list_objects(config, None).found.items():
            [source] = open_headers(Source(name, (member,), ""), config, Limits(bytes=1000))
            assert source.failure is None, source.failure
            sent[name] = [large.store.sent(f"{large.name}/in/{name}")]
            near = tuple(str(large.folder / "in" / Path(path).name) for path in member.paths)
            local = replace(member, path=near[0], beside=near[1:])
            with fetched(source) as far:
                assert far.members == source.members
                for here, there in zip(
                    read_box(replace(source, members=(local,)), box),
                    read_box(far, box),
                    strict=True,
                ):
                    assert np.array_equal(here, there)
            sent[name] += [large.store.sent(f"{large.name}/in/{name}")]
        return sent

    sent = large.told(large.fork(look))
    assert sent.keys() == {"a.tif", "b.tif"}
    for header, window in sent.values():
        assert 0 < header <= 1 << 19
        assert 0 < window <= 1 << 20
    assert (large.folder / "in/a.tif").stat().st_size > 4 << 20


def test_a_large_raster_that_is_replaced_or_out_of_reach_is_told_apart(large: Bucket) -> None:
    config, first = Input(path=(f"s3://{large.name}/in/a.tif",)), Region((0, 300), (9, 309))

    def look() -> list[str]:
        kinds = []
        for happens in ("replaced", "deleted"):
            [member] = list_objects(config, None).found.values()
            [source] = open_headers(Source("a", (member,), ""), config, Limits())
            with fetched(source) as far:
                read_box(far, first)
                if happens == "replaced":
                    with (large.folder / "in/a.tif").open("ab") as file:
                        file.write(b"1")
                    large.upload(Path(file.name), "in/a.tif")
                else:
                    large.store.client.delete_object(Bucket=large.name, Key="in/a.tif")
                with pytest.raises(ReadError) as error:
                    read_box(far, Region((1300, 1300), (1400, 1400)))
            kinds.append(error.value.kind)
            assert "testing" not in str(error.value)
        return kinds

    assert large.told(large.fork(look)) == ["changed", "io"]


def test_scenes_in_a_store_give_the_rows_of_the_folder(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SCENE", 1 << 18)
    monkeypatch.setattr(plan, "_CORES", (512, 512))
    monkeypatch.setattr(fetch, "LARGE", 1 << 18)
    path = bucket.folder / "in/a.tif"
    path.parent.mkdir()
    scene(path, side=600)
    for one in path.parent.iterdir():
        bucket.upload(one, f"in/{one.name}")
    config = write_config(bucket.folder / "c.yaml", path.parent, bucket.folder / "l")
    assert filterbank("run", config).code == 0
    url = f"s3://{bucket.name}/in"
    arguments = "run", config, "--input", url, "--output", bucket.folder / "s", "--workers", 0
    said = bucket.run(*arguments)
    assert said.code == 0, said
    assert tree(bucket.folder / "s") == tree(bucket.folder / "l")
    hashed_and_read_once = 2.5 * path.stat().st_size
    assert bucket.store.sent(f"{bucket.name}/in/a.tif") < hashed_and_read_once
    assert not [*private().iterdir()]


def test_of_two_drivers_one_works(images: Path, bucket: Bucket) -> None:
    config = write_config(bucket.folder / "c.yaml", images, bucket.folder / "out")
    arguments = "run", config, "--output", bucket.output
    both = [bucket.end(child) for child in [bucket.begin(*arguments) for _ in range(2)]]
    codes = [said.code for said in both if said is not None]
    assert sorted(codes) in ([0, 0], [0, 75]), both  # one after the other, or one
    assert filterbank("run", config).code == 0
    assert bucket.tree() == tree(bucket.folder / "out")


def test_a_store_that_does_not_heed_conditions_is_refused(images: Path, bucket: Bucket) -> None:
    config = write_config(bucket.folder / "c.yaml", images, bucket.folder / "out")
    careless = bucket.store.careless
    child = bucket.begin("run", config, "--output", bucket.output, endpoint=careless)
    said = bucket.end(child)
    assert said is not None
    assert said.code == 3
    assert "creates an object that exists already" in said.err
    assert bucket.tree() == {}


def test_uploads_that_were_cut_off_are_forgotten_page_by_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = [{"Key": f"out/.tmp/{i}", "UploadId": str(i)} for i in range(5)]

    class Pages:
        def call_s3(self, method: str, **asked: str) -> dict[str, Any]:
            if method == "abort_multipart_upload":
                left.remove({name: asked[name] for name in ("Key", "UploadId")})
                return {}
            assert (asked["Bucket"], asked["Prefix"]) == ("b", "out/.tmp/")
            page = [one for one in left if one["Key"] > asked.get("KeyMarker", "")][:2]
            last = page[-1]
            more = {"NextKeyMarker": last["Key"], "NextUploadIdMarker": last["UploadId"]}
            return {"Uploads": page, "IsTruncated": last is not left[-1], **more}

    monkeypatch.setattr(ObjectPath, "store", Pages())
    ObjectPath("s3", "b/out/.tmp").abort_uploads()
    assert left == []


def test_uploads_that_were_cut_off_are_forgotten_and_others_are_not(
    images: Path, bucket: Bucket
) -> None:
    begin = bucket.store.client.create_multipart_upload
    begin(Bucket=bucket.name, Key="deep/out/.tmp/000001-x/maps/part")
    for other in ("deep/outer", "deep/out/nested/.tmp/000001-x/maps/part"):
        begin(Bucket=bucket.name, Key=other)
    config = write_config(bucket.folder / "c.yaml", images, bucket.folder / "out")
    assert bucket.run("run", config, "--output", bucket.output).code == 0
    left = bucket.store.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    assert {one["Key"] for one in left} == {"deep/outer", "deep/out/nested/.tmp/000001-x/maps/part"}


def test_a_bucket_that_is_not_there_is_a_folder_that_cannot_be_written(
    images: Path, bucket: Bucket
) -> None:
    config = write_config(bucket.folder / "c.yaml", images, bucket.folder / "out")
    said = bucket.run("run", config, "--output", "s3://nobody-has-this/out")
    assert said.code == 7
    assert "cannot write to s3://nobody-has-this/out" in said.err
    assert "look at the network and the bucket's permissions" in said.err
    child = bucket.begin("status", bucket.output, endpoint="http://127.0.0.1:9")
    unheard = bucket.end(child)
    assert unheard is not None
    assert unheard.code == 7
    assert "the object store refuses, or does not answer" in unheard.err
