"""`derive: {ndvi: "(nir - red) / (nir + red)"}`: text -> formulas, by a grammar of our own.

Python parses the text; nothing of it is ever run. What is not listed here is refused.
"""

from __future__ import annotations

import ast
import math
import warnings
from functools import partial, reduce

from pipeline.config.nodes import Entry, Node, gather, problem, shown
from pipeline.derive import Band, Call, Derived, Formula, Number
from pipeline.registry import nearest

LONGEST = 1000
DEEPEST = 100
RESERVED = ("all", "luminance")  # words that stand for other things where bands are named

OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "float_power",
}
FUNCTIONS = {"abs": "abs", "sqrt": "sqrt", "log": "log", "exp": "exp"}
FOLDS = {"min": "minimum", "max": "maximum"}  # of two values or more
GRAMMAR = "bands, numbers, + - * / **, parentheses, " + ", ".join((*FUNCTIONS, *FOLDS))
_TOO_DEEP = f"is nested more than {DEEPEST} deep; derive parts of it as bands of their own"


def derived_bands(node: Node) -> tuple[Derived, ...]:
    """The bands of the config's `derive` mapping. Raises ConfigError with every problem."""
    if not isinstance(node.value, dict):
        text = (
            f"must be a mapping (got {shown(node.plain)}); "
            "write derive: {ndvi: '(nir - red) / (nir + red)'}"
        )
        raise problem(node.place, "derive", text)
    return tuple(gather(partial(_band, label, entry) for label, entry in node.entries.items()))


def _band(label: str, entry: Entry) -> Derived:
    key, text = f"derive.{label}", entry.node.value
    if not label.isprintable() or label != label.strip() or not label:
        told = "a band's name must be printable text without blanks at its ends"
        raise problem(entry.place, "derive", f"{told} (got {shown(label)})")
    if label in RESERVED or label.isdigit():
        told = f"{label!r} stands for other bands already; give the band another name"
        raise problem(entry.place, key, told)
    if not isinstance(text, str):
        told = f"must be a formula in quotes (got {shown(entry.node.plain)}); use {GRAMMAR}"
        raise problem(entry.node.place, key, told)
    try:
        band = Derived(label, " ".join(text.split()), parse(text))
    except ValueError as error:
        raise problem(entry.node.place, key, str(error)) from None
    if not band.bands:
        told = f"{shown(text)} names no band; write a band's label, in quotes if it is a number"
        raise problem(entry.node.place, key, told)
    return band


def parse(text: str) -> Formula:
    """Read one formula. Names are bands; so are texts in quotes, for labels that are no names.

    Raises
    ------
    ValueError
        `what is wrong; what to do` for anything else.

    Examples
    --------
    >>> parse("nir / '4'")
    Call(function='divide', arguments=(Band(label='nir'), Band(label='4')))
    """
    if len(text) > LONGEST:
        message = f"is longer than {LONGEST} characters; derive parts of it as bands of their own"
        raise ValueError(message)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts, which are labels here
            tree = _as_written(ast.parse(text.strip(), mode="eval"), text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        message = f"{shown(text)} is no formula; use {GRAMMAR}"
        raise ValueError(message) from None
    try:
        return _formula(tree.body, DEEPEST)
    except RecursionError:  # of ast, which quotes what is refused
        raise ValueError(_TOO_DEEP) from None


def _as_written(tree: ast.Expression, text: str) -> ast.Expression:
    """Names as the text has them: Python takes letters that look alike (NFKC) for each other."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = ast.get_source_segment(text, node) or node.id
    return tree


def _formula(tree: ast.expr, depth: int) -> Formula:
    if depth == 0:
        raise ValueError(_TOO_DEEP)
    if isinstance(tree, ast.BinOp) and type(tree.op) in OPERATORS:
        sides = (_formula(tree.left, depth - 1), _formula(tree.right, depth - 1))
        return Call(OPERATORS[type(tree.op)], sides)
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub | ast.UAdd):
        inner = _formula(tree.operand, depth - 1)
        return Call("negative", (inner,)) if isinstance(tree.op, ast.USub) else inner
    if isinstance(tree, ast.Name):
        return Band(tree.id)
    if isinstance(tree, ast.Constant):
        return _constant(tree)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.keywords:
        arguments = tuple(_formula(part, depth - 1) for part in tree.args)
        return _call(tree.func.id, arguments)
    raise _refusal(tree)


def _constant(tree: ast.Constant) -> Formula:
    value = tree.value
    if isinstance(value, str):
        return Band(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(tree)
    if abs(value) > 1e300 or not math.isfinite(value):
        message = f"{shown(ast.unparse(tree))} is too large; write a number below 1e300"
        raise ValueError(message)
    return Number(float(value))


def _call(name: str, arguments: tuple[Formula, ...]) -> Formula:
    if name in FUNCTIONS and len(arguments) == 1:
        return Call(FUNCTIONS[name], arguments)
    if name in FOLDS and len(arguments) > 1:
        return reduce(lambda a, b: Call(FOLDS[name], (a, b)), arguments)
    known = (*FUNCTIONS, *FOLDS)
    if name not in known:
        message = f"unknown function {name!r}{nearest(name, known)}"
        raise ValueError(message)
    wish, example = ("two values or more", "red, 0") if name in FOLDS else ("one value", "red")
    message = f"{name} takes {wish} (got {len(arguments)}); write {name}({example})"
    raise ValueError(message)


def _refusal(tree: ast.expr) -> ValueError:
    return ValueError(f"{shown(ast.unparse(tree))} is no part of a formula; use {GRAMMAR}")
