"""Shared fixtures: where the real data is, folders made once, examples drawn alike every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from once import Once

# torch's threads, which wait by spinning, cost the other workers more than these images gain
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Triton, which looks when it is first imported, runs its kernels in Python: no GPU is needed
os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("filterbank", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("filterbank")

ROOT = Path(__file__).resolve().parents[1]


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, because fault tests mostly wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin every worker's share with some of the fault tests, which wait more than they compute.

    xdist deals the list out in one piece per worker; in one piece they would wait one by one. What
    shares a cluster stays together, because starting one is dear.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    waiting = [item for item in items if "faults" in item.path.parts]
    together = [item for item in waiting if item.get_closest_marker("ray")]
    waiting = [item for item in waiting if item not in together]
    others = [item for item in items if "faults" not in item.path.parts]
    share = -(-len(others) // workers)
    items[:] = [
        item
        for i in range(workers)
        for item in (
            *(together if i == 0 else ()),
            *waiting[i::workers],
            *others[i * share : (i + 1) * share],
        )
    ]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images; tests that need it are skipped, with the reason, without it."""
    folder = Path(os.environ.get("FILTERBANK_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("FILTERBANK_SHARED is not set and ../shared does not exist")
    return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    base = tmp_path_factory.getbasetemp()
    return Once(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def samples(once: Once) -> Path:
    """What data/make_samples.py writes; not to be changed."""
    script = [sys.executable, ROOT / "data" / "make_samples.py"]
    return once("samples", lambda folder: subprocess.run([*script, folder], check=True))
