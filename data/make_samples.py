"""Write data/samples: small generated images that look like the real thing, one folder per use.

    python data/make_samples.py [FOLDER]

The same versions write the same bytes on every run. A file is written under a temporary name and
renamed, so an interrupted run leaves no half image.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from scenes import ct, edges, handwriting, photos, satellite, spectrogram, xray
from scenes.encode import encode

SAMPLES = Path(__file__).resolve().parent / "samples"
SCENES = (edges, photos, xray, satellite, handwriting, spectrogram, ct)


def write(path: Path, content: bytes) -> None:
    """Put a whole file in place, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def make(folder: Path) -> int:
    """Write every sample below `folder`; return how many there are."""
    images = {
        folder / scene.__name__.rpartition(".")[2] / name: image
        for scene in SCENES
        for name, image in scene.images().items()
    }
    for path, image in images.items():
        write(path, encode(path.suffix, image))
    return len(images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write small generated images, one folder per use")
    parser.add_argument("folder", nargs="?", type=Path, default=SAMPLES)
    target = parser.parse_args().folder
    print(f"{make(target)} sample files in {os.path.relpath(target)}")
