"""What filters are called elsewhere, for whoever writes such a word in a config."""

from __future__ import annotations

SAME = {
    "average": "mean",
    "bandpass": "dog",
    "blur": "gaussian",
    "box": "mean",
    "cnn": "stack",
    "differenceofgaussians": "dog",
    "gradient": "sobel",
    "harris": "structure_tensor",
    "highboost": "unsharp",
    "lbp": "local_binary_pattern",
    "lm": "leung_malik",
    "marrhildreth": "log",
    "none": "identity",
    "original": "identity",
    "pillbox": "disk",
    "ridge": "sato",
    "sharpen": "unsharp",
    "swt": "wavelet",
    "tubeness": "sato",
    "uniform": "mean",
    "vesselness": "frangi",
}
"""Words without underscores, and the family that is meant."""

SORTED = frozenset({"bilateral", "closing", "dilation", "erosion", "median", "opening", "rank"})
"""What compares the pixels of a window instead of weighing them."""


def hint(name: str) -> str:
    """Say what to write for a word of others; empty where it is none.

    >>> hint("box_filter"), hint("high-boost")
    ("; did you mean 'mean'?", "; did you mean 'unsharp'?")
    """
    word = name.lower().replace("-", "").replace("_", "").removesuffix("filter")
    if word in SORTED:
        return "; it is no linear filter, and none here is like it"
    return f"; did you mean {SAME[word]!r}?" if word in SAME else ""
