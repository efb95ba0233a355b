"""The commit of an object store: a redo log without renames.

Files are put below `.tmp/<id>/`, then `.tmp/<id>.json` is created, where there is none: it lists
every final name, in order, and what goes. From that moment the set is decided; the copies to the
final names that follow can be cut off anywhere, because `recover` repeats them. The files below
`.tmp/<id>/` go last, after the journal, so a journal without them is of a set that is done.

A run that lost its lease and does not know it can do no harm: who takes over creates the journals
of all sets that are not decided itself, as given up, before it deletes their files, and no other
run has the same ids. No clock decides any of this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import lease
from pipeline.errors import Locked
from pipeline.storage import TMP, ObjectPath

_GIVEN_UP = b'{"given up": true}'
_TODO = ".todo.json"
"""Among the staged files: the journal as it will be."""


def stage(
    root: ObjectPath, name: str, room: str, folder: Path, todo: Mapping[str, Sequence[str]]
) -> None:
    """Put the local files below `folder` that a journal names where `decide` finds them."""
    id = _id(root, name, room)
    staged = root / TMP / id
    staged.clear()
    staged.put({final: folder / final for final in todo["files"]})
    (staged / _TODO).write_bytes(json.dumps({"id": id, **todo}).encode())


def decide(root: ObjectPath, name: str, room: str = "") -> None:
    """Give staged files their final names in order, and delete what is to go.

    Raises Locked where another run has taken over, OSError.
    """
    id = _id(root, name, room)
    lease.check(root)
    try:
        written = (root / TMP / id / _TODO).read_bytes()
        if (root / TMP / f"{id}.json").create(written) and _finish(root, id, written):
            return
    except FileNotFoundError:
        pass
    message = f"another run took {root} over and gave {name} up; what was committed stays"
    raise Locked(message)


def forget(root: ObjectPath, room: str) -> None:
    """Delete what was staged in a room and is not decided."""
    for path in (root / TMP).iterdir():
        if path.name.startswith(f"{room}-"):
            path.clear()


def recover(root: ObjectPath) -> int:
    """Finish sets that were decided, give up the others; count the former.

    Must run, under the lease, before anything else is written.
    """
    root.abort_uploads()
    ids = {path.name.removesuffix(".json") for path in (root / TMP).iterdir()}
    done = 0
    for id in sorted(ids):
        journal = root / TMP / f"{id}.json"
        if journal.create(_GIVEN_UP) or (written := journal.read_bytes()) == _GIVEN_UP:
            (root / TMP / id).clear()
            journal.unlink(missing_ok=True)
        else:
            done += _finish(root, id, written)
    return done


def _id(root: ObjectPath, name: str, room: str) -> str:
    return f"{room or format(lease.number_of(root), '06d')}-{name}"


def _finish(root: ObjectPath, id: str, written: bytes) -> bool:
    """Do what a journal says; False where another run has done it already, or gave it up."""
    staged, journal = root / TMP / id, root / TMP / f"{id}.json"
    todo = json.loads(written)
    try:
        staged.copy(todo["files"][:-1], root)
        staged.copy(todo["files"][-1:], root)  # the images part: that the others are there
    except FileNotFoundError:
        whole = False
    else:
        whole = True
        if todo["remove"]:
            lease.check(root)
        for final in todo["remove"]:
            (root / final).unlink(missing_ok=True)
    journal.unlink(missing_ok=True)
    staged.clear()
    return whole
