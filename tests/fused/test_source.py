"""The text of a fused kernel: literal taps, each pixel loaded once, nothing for a tap of 0."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

from pipeline.bank.expr import Kernel
from pipeline.fused.source import Template, write

NOTHING = Template(pointers=("out_ptr",))
SOBEL = Kernel.of([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def test_every_tap_that_is_not_0_is_one_literal() -> None:
    """And one fused multiply-add: else a compiler contracts them as suits what surrounds them."""
    text = write([SOBEL, Kernel.of([[0.1]])], ((1, 1), (1, 1)), [NOTHING])
    taps = re.findall(
        r"a(\d) = (?:tl\.fma\(tl\.full\(\[BLOCK\], )?([^ ,t]+)(?: \* v|, tl\.f)", text
    )
    assert len(re.findall(r"\* v\b", text)) == 2
    assert [float(w) for f, w in taps if f == "0"] == [-1, 1, -2, 2, -1, 1]
    assert [w for f, w in taps if f == "1"] == [repr(float(np.float32(0.1)))]


def test_a_pixel_is_loaded_once_for_all_kernels_and_only_where_one_has_a_tap() -> None:
    text = write([SOBEL, SOBEL, Kernel.of([[0.5]])], ((1, 1), (1, 1)), [NOTHING])
    loads = re.findall(r"row \+ \((\d) \* stride_z \+ (\d) \* stride_y \+ (\d)\)", text)
    assert loads == sorted(set(loads))
    assert len(loads) == 7  # the six of Sobel's and the centre


def test_taps_lie_where_the_margin_of_all_kernels_puts_them() -> None:
    even = Kernel.of(np.ones((1, 1, 2)))  # its origin is the second tap
    text = write([even, Kernel.of(np.ones((3, 1, 5)))], ((1, 1), (0, 0), (2, 2)), [NOTHING])
    places = re.findall(r"\((\d) \* stride_z \+ (\d) \* stride_y \+ (\d)\).*\n.*a0", text)
    assert places == [("1", "0", "1"), ("1", "0", "2")]


def test_templates_are_repeated_for_each_filter_in_the_order_given() -> None:
    one = Template(("one_ptr",), begin="b@ = 0", each="b@ += a@", end="tl.store(one_ptr + @, b@)")
    two = Template(("two_ptr",), each="c = a@")
    text = write([SOBEL, SOBEL], ((1, 1), (1, 1)), [one, two])
    assert "one_ptr, two_ptr," in text
    order = ["b0 = 0", "b1 = 0", "b0 += a0", "b1 += a1", "c = a0", "c = a1", "one_ptr + 1, b1"]
    assert [text.index(line) for line in order] == sorted(text.index(line) for line in order)


@pytest.mark.parametrize("weights", [np.zeros((3, 3)), np.full((1, 1), 1e-60)])
def test_a_kernel_without_taps_responds_with_0(weights: np.ndarray) -> None:
    text = write([Kernel.of(weights)], ((1, 1), (1, 1)), [NOTHING])
    assert "a0 = tl.zeros([BLOCK], tl.float32)" in text
    assert "tl.load(row" not in text
    ast.parse(text)


def test_equal_banks_are_equal_texts() -> None:
    """Triton keeps what it compiled by the text."""
    again = Kernel.of(np.array([[-1, 0, 1], [-2, 0, 2], [-1, -0.0, 1]]))
    margin = ((1, 1), (1, 1))
    assert write([SOBEL], margin, [NOTHING]) == write([again], margin, [NOTHING])
