"""A hundred thousand tiny files: memory does not grow with them; seconds are only told."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import yaml
from command import Figures, command, draw, write_config

FILES = 100_000
LINKS = 30_000
"""Names of one file, of which file systems allow 32,000 and more."""

GROWTH_MIB = 200

pytestmark = pytest.mark.skipif(
    os.environ.get("FILTERBANK_SLOW") != "1", reason="takes minutes; FILTERBANK_SLOW=1 runs it"
)


def fill(folder: Path, count: int) -> Path:
    """Files by the thousand in a folder."""
    for i in range(count):
        if i % LINKS == 0:
            drawn = draw(folder.parent / f"{folder.name}-{i}.png", seed=i, size=8)
        if i % 1000 == 0:
            (folder / f"{i // 1000:03}").mkdir(parents=True)
        (folder / f"{i // 1000:03}" / f"{i:06}.png").hardlink_to(drawn)
    return folder


def run(config: Path) -> tuple[float, int]:
    """Seconds of processor time of a run that ends well, and the most memory it had, in MiB."""
    process = subprocess.Popen(command("run", config), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime, used.ru_maxrss >> 10


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path, figures: Figures) -> None:
    found = {}
    for count in (1000, FILES):
        images, out = fill(tmp_path / f"in{count}", count), tmp_path / f"out{count}"
        config = write_config(
            tmp_path / f"{count}.yaml", images, out, filters=["identity"], run={"workers": 1}
        )
        whole = yaml.safe_load(config.read_text())
        config.write_text(yaml.safe_dump(whole | {"output": {"path": str(out)}}))
        seconds, memory = run(config)
        found[count] = memory
        again, little = run(config)
        figures(
            f"{count} files: {seconds:.1f} s of the main process, {memory} MiB; nothing to do: "
            f"{again:.1f} s, {little} MiB"
        )
        status = ds.dataset(out / "images").to_table(columns=["status"])["status"].to_pylist()
        assert Counter(status) == {"done": count}
    assert found[FILES] - found[1000] <= GROWTH_MIB
