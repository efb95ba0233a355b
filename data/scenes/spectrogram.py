"""Spectrograms of synthetic sound: the sound is made first, then its short-time spectrum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scenes.field import Field

RATE = 16_000
"""Samples per second."""
SECONDS = 2.0


def images() -> dict[str, npt.NDArray[np.generic]]:
    """Three float32 arrays (129 frequencies, 199 times) in dB; row 0 is 0 Hz, the last 8 kHz."""
    rng = np.random.default_rng(6)
    time = np.arange(int(RATE * SECONDS)) / RATE
    sounds = {
        "birds.npy": birds(time) + 0.002 * rng.standard_normal(time.size),
        "voice.npy": voice(time) + 0.001 * rng.standard_normal(time.size),
        "clicks.npy": clicks(time, rng) + 0.0005 * rng.standard_normal(time.size),
    }
    return {name: decibels(sound) for name, sound in sounds.items()}


def decibels(sound: Field, window: int = 256, hop: int = 160) -> npt.NDArray[np.float32]:
    """Power spectrum of Hann windows, 10 log10, not below -140 dB."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop]
    taper = np.hanning(window + 1)[:-1]
    power = abs(np.fft.rfft(frames * taper) / taper.sum()) ** 2
    return (10 * np.log10(np.maximum(power, 1e-14))).T.astype(np.float32)


def birds(time: Field) -> Field:
    """Whistles that sweep up, sweep down and trill."""
    sound = np.zeros_like(time)
    for start, length, low, high in (
        (0.10, 0.35, 2200, 5200),
        (0.55, 0.25, 6400, 3000),
        (0.80, 0.15, 3000, 4500),
        (1.00, 0.15, 3000, 4500),
        (1.60, 0.30, 1500, 7000),
    ):
        u = np.clip((time - start) / length, 0, 1)
        sweep = low * u + (high - low) * u**2 / 2
        sound += 0.3 * np.sin(2 * np.pi * length * sweep) * np.sin(np.pi * u) ** 2
    trill = 3800 * time + 900 / (2 * np.pi * 18) * np.sin(2 * np.pi * 18 * time)
    return sound + 0.15 * np.sin(2 * np.pi * trill) * np.exp(-(((time - 1.38) / 0.1) ** 2))


def voice(time: Field) -> Field:
    """Vowels: harmonics of a wavering pitch under two formants that move."""
    pitch = 230 + 35 * np.sin(2 * np.pi * 0.9 * time) + 3 * np.sin(2 * np.pi * 5.5 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    first = 500 + 250 * np.sin(2 * np.pi * 1.1 * time)
    second = 1700 - 600 * np.sin(2 * np.pi * 0.8 * time)
    sound = np.zeros_like(time)
    for harmonic in range(1, 29):
        frequency = harmonic * pitch
        gain = sum(
            weight / (1 + ((frequency - formant) / width) ** 2)
            for weight, formant, width in ((1, first, 120), (0.5, second, 180), (0.1, 2800, 400))
        )
        sound += gain * np.sin(harmonic * phase)
    syllables = np.clip(1.6 * np.sin(2 * np.pi * 1.7 * time - 0.6), 0, 1)
    return 0.2 * sound * syllables


def clicks(time: Field, rng: np.random.Generator) -> Field:
    """Echolocation-like clicks that come ever faster, over a hum and its overtones."""
    hum = sum(0.02 / k * np.sin(2 * np.pi * 420 * k * time) for k in range(1, 6))
    sound = np.asarray(hum)
    for start in 1.9 * np.linspace(0.05, 1, 22) ** 0.55:
        age = time - start
        burst = rng.standard_normal(time.size) * np.sin(2 * np.pi * 5200 * age)
        sound = sound + 0.4 * burst * np.where(age > 0, np.exp(-np.maximum(age, 0) / 0.0015), 0)
    return sound
