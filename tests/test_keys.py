"""A key is printable, holds every byte of a name, and never meets another one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.keys import escape, picture_folder, picture_part, unescape

NAMES = st.binary(min_size=1, max_size=80).filter(lambda b: b"\0" not in b).map(os.fsdecode)


@given(NAMES)
@example("a\nb")
@example("50%23 #1.png")
@example(os.fsdecode(b"\xff\xfe\x80"))
@example("‮gnp.exe")
def test_every_name_comes_back_from_its_key_byte_for_byte(name: str) -> None:
    key = escape(name)
    assert os.fsencode(unescape(key)) == os.fsencode(name)
    assert key.encode("utf-8")
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in key)


@given(NAMES, NAMES)
@example("a#", "a%23")
@example("a\n", "a%0A")
def test_different_names_have_different_keys(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=300))
@example("x" * 255)
@example("\n" * 255)
@example("é" * 127 + "x")
@example("a/b/../..")
def test_folders_of_pictures_stay_inside_and_within_what_a_file_system_holds(name: str) -> None:
    parts = picture_folder(escape(name)).split("/")
    assert parts[0] == "png"
    assert all(len(part.encode()) <= 200 for part in parts)
    band = picture_part(name)
    assert band not in ("", ".", "..")
    assert "/" not in band
    assert len(band.encode()) <= 200


def test_long_names_that_begin_alike_get_folders_of_their_own() -> None:
    names = ["x" * 251 + end for end in ("1.png", "2.png", "1.jpg")]
    assert len({picture_folder(escape(name)) for name in names}) == 3


def test_naughty_names_come_back(shared: Path) -> None:
    names = json.loads((shared / "hostile/names.json").read_text())
    assert len(names) > 500
    assert [unescape(escape(name)) for name in names] == names
    assert len({escape(name) for name in names}) == len(set(names))
