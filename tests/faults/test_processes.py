"""The process that readers are forked from is itself a fork of a run, and keeps nothing of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import gc, multiprocessing, os, tempfile
from pipeline.workers.start import start_forkserver

class Held:
    def __init__(self):
        self.file, self.me = open(os.devnull), self  # a cycle: only the collector closes it

def read(answers):
    pipes = [os.pipe() for _ in range(20)]
    gc.collect()  # what came with the fork must not close what is in use here
    for out, into in pipes:
        os.write(into, b"x")
        assert os.read(out, 1) == b"x"
    answers.send(sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                        if os.path.exists(f"/proc/self/fd/{n}")))

if __name__ == "__main__":
    gc.disable()
    held = [Held() for _ in range(20)]
    secret = tempfile.NamedTemporaryFile()
    del held
    start_forkserver()
    here, there = multiprocessing.Pipe()
    reader = multiprocessing.get_context("forkserver").Process(target=read, args=(there,))
    reader.start()
    there.close()
    assert secret.name not in here.recv()
    reader.join()
"""


def test_files_of_a_run_stay_with_it(tmp_path: Path) -> None:
    """Collected in a reader, they once closed the sockets that its samples were sent through."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
