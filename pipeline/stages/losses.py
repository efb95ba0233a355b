"""What is said of images that lost results with damaged files, and cannot be made anew now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa


def bereft(
    images: pa.Table, torn: Sequence[str], pictures: Mapping[str, Sequence[str]]
) -> pa.Table:
    """Rows of kept images that say so where results of theirs were lost with damaged files.

    torn: damaged tables, in which all have lost their rows; pictures: in which folders files of
    an image are damaged. No bytes of files are known to be those that an image was made of, so that
    it is done again whenever they come back. What it lost before stays said.
    """

    def told(row: dict[str, Any]) -> dict[str, Any]:
        found = _losses(torn, pictures.get(row["image"], ()))
        had_results = row["status"] == "done" or row["mtime_ns"] is None
        if not found or not had_results:
            return row
        said = row["error"].split("; ") if row["error"] else []
        lost = {"status": "failed", "kind": "io", "error": "; ".join(dict.fromkeys(said + found))}
        return row | lost | dict.fromkeys(("value_unit", "mtime_ns", "fingerprint"))

    return pa.Table.from_pylist([told(row) for row in images.to_pylist()], schema=images.schema)


def _losses(torn: Sequence[str], pictures: Sequence[str]) -> list[str]:
    rows = [f"its rows in {' and '.join(torn)} were lost with a damaged file"] if torn else []
    files = [f"its damaged files in {' and '.join(pictures)} were lost"] if pictures else []
    return rows + files
