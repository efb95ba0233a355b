"""What a command answers where nobody reads what it says, or there is no room for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Said, draw, filterbank, finish, forked, write_config

CLOSED = "import os; ours, theirs = os.pipe(); os.close(ours); os.dup2(theirs, 1)"
FULL = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
NO_ROOM = "filterbank: cannot write to standard output: No space left on device\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of which a table is damaged; its config is beside it."""
    folder = tmp_path_factory.mktemp("stdout")
    draw(folder / "in/0.png", seed=0, size=8)
    config = write_config(folder / "c.yaml", folder / "in", folder / "out")
    assert filterbank("run", config).code == 0
    (part,) = (folder / "out/maps").iterdir()
    part.write_bytes(part.read_bytes()[::-1])
    return folder / "out"


def said(setup: str, *arguments: object) -> Said:
    with forked(*arguments, setup=setup) as process:
        return finish(process)


@pytest.mark.parametrize("command", ["verify", "status", "export", "plan", "--help", "list"])
def test_what_cannot_be_said(command: str, root: Path) -> None:
    """A closed pipe changes nothing; a full disk is 7, even of a folder that is damaged."""
    more = {
        "verify": [root],
        "status": [root],
        "export": [root, root.parent / "wide.parquet"],
        "plan": [root.parent / "c.yaml"],
        "--help": [],
        "list": ["filters"],
    }[command]
    code = 9 if command == "verify" else 0
    assert said(CLOSED, command, *more) == Said(code, "", "")
    assert said(FULL, command, *more) == Said(7, "", NO_ROOM)


@pytest.mark.parametrize("setup", [CLOSED, FULL], ids=["closed", "full"])
def test_a_run_needs_nobody_to_read_its_lines(setup: str, root: Path) -> None:
    config, out = root.parent / "c.yaml", root.parent / "other"
    assert said(setup, "run", config, "--output", out) == Said(0, "", "")
    assert filterbank("run", config, "--output", out).out.startswith("nothing to do")
