"""Folders to learn from, configs that do, and the banks they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from safetensors import safe_open

SIZE = 5
"""Pixels of a patch along each axis."""


def photos(folder: Path, count: int = 4, shape: tuple[int, ...] = (40, 50, 3)) -> Path:
    """Smooth colour images."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        noise = np.random.default_rng(i).normal(size=shape).cumsum(0).cumsum(1)
        scaled = 255 * (noise - noise.min()) / np.ptp(noise)
        Image.fromarray(scaled.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def written(folder: Path, images: Path, **sections: Any) -> Path:
    """A config that learns a bank and uses it."""
    kernel = {"name": "own", "file": "bank.safetensors", "tensor": "weights", "bias": "bias"}
    learn = {"patches": "pca", "size": SIZE, "count": 4, "file": "bank.safetensors"}
    whole: dict[str, Any] = {
        "version": 1,
        "input": {"path": str(images)},
        "learn": learn | sections.pop("learn", {}),
        "filters": [{"kernel": kernel}],
        "output": {"path": str(folder / "out"), "maps": "float32"},
        "run": {"workers": 0},
    }
    for key, value in sections.items():
        whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    (folder / "c.yaml").write_text(yaml.safe_dump(whole))
    return folder / "c.yaml"


def bank_of(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def up_to_sign(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The wanted rows with the signs that the rows have."""
    return wanted * np.sign((rows * wanted).sum(1, keepdims=True))
