"""A file that kills the process reading it is one image that nothing is learned from."""

from __future__ import annotations

from pathlib import Path

import yaml
from command import draw, finish, started

PLUGIN = '''
import os
import re
from pipeline.readers.base import READERS
from pipeline.readers.png import Png


@READERS.register("deadly")
class Deadly:
    """A PNG by its header; reading it kills the process."""

    suffixes = (".deadly",)
    signature = re.compile(rb"DEADLY")

    def probe(self, path):
        return Png().probe(os.path.dirname(path) + "/0.png")

    def open(self, path, page):
        os.kill(os.getpid(), 9)
'''


def test_a_file_that_kills_its_reader_is_left_out_and_counted(tmp_path: Path) -> None:
    for i in (0, 2, 3):
        draw(tmp_path / f"in/{i}.png", seed=i)
    (tmp_path / "in" / "1.deadly").write_bytes(b"DEADLY")
    (tmp_path / "sitecustomize.py").write_text(PLUGIN)
    whole = {
        "version": 1,
        "input": {"path": str(tmp_path / "in")},
        "learn": {"patches": "pca", "size": 3, "file": "bank.safetensors"},
        "run": {"workers": 1},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(whole))
    env = {"PYTHONPATH": str(tmp_path)}
    with started("learn", tmp_path / "c.yaml", env=env) as process:
        said = finish(process)
    assert said.code == 0, said.err
    assert "learned 9 filters of 1x3x3 (pca), 588 patches of 3 images" in said.out
    assert "failed 1 (1 crashed)" in said.out
    assert (tmp_path / "bank.safetensors").is_file()
