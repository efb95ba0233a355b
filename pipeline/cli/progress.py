"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TypeAlias

import click

from pipeline.errors import WriteError

Tell: TypeAlias = Callable[[int, int], None]
"""Hears of images done and their pixels."""


def shown(text: object) -> str:
    r"""Text for a terminal: what names of files could do to it is written out.

    >>> shown("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(text))


def say(text: str) -> None:
    """Print a line; a run goes on when nobody can read it any more."""
    with suppress(WriteError):
        click.echo(shown(text))


def complain(text: str) -> None:
    """Print a line on the other stream, likewise."""
    with suppress(OSError):
        click.echo(shown(text), err=True)


def warn(warnings: Sequence[str]) -> None:
    """Complain of the first twenty."""
    for text in warnings[:20]:
        complain(f"warning: {text}")


def counted(count: int, what: str) -> str:
    """A number and its noun, which takes an s but after 1."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def bar(total: int, failed: Callable[[], int]) -> Generator[Tell, None, None]:
    """A tqdm bar: images/s, Mpixel/s, failed, time left."""
    from tqdm import tqdm

    began, pixels = time.monotonic(), 0
    with tqdm(total=total, unit="image", dynamic_ncols=True) as bar:

        def tell(images: int, more: int) -> None:
            nonlocal pixels
            pixels += more
            speed = pixels / 1e6 / max(time.monotonic() - began, 1e-9)
            bar.set_postfix_str(f"{speed:.1f} Mpixel/s, failed {failed()}", refresh=False)
            bar.update(images)

        yield tell


def rounds(most: int) -> Generator[Callable[[], None], None, None]:
    """How many rounds a computation did, of those it does at most: a bar, or lines as `lines`."""
    from tqdm import tqdm

    said, done = time.monotonic(), 0
    with tqdm(total=most, unit="round", dynamic_ncols=True, disable=None) as bar:

        def tell() -> None:
            nonlocal said, done
            done += 1
            bar.update()
            if bar.disable and time.monotonic() - said >= 30:
                said = time.monotonic()
                say(f"k-means: round {done} of at most {most}")

        yield tell


def lines(total: int, failed: Callable[[], int]) -> Generator[Tell, None, None]:
    """One plain line every 30 s, for cron and CI."""
    began = said = time.monotonic()
    images = pixels = 0

    def tell(more: int, area: int) -> None:
        nonlocal said, images, pixels
        images, pixels = images + more, pixels + area
        now = time.monotonic()
        if now - said >= 30:
            said, rate = now, images / (now - began)
            left = (total - images) / rate if rate else 0
            say(
                f"{images}/{total} images, {rate:.1f}/s, "
                f"{pixels / 1e6 / (now - began):.1f} Mpixel/s, failed {failed()}, {left:.0f} s left"
            )

    yield tell
