"""Surface textures of the miniature: brightness changes in [-1, 1] as tiles of TILE × TILE pixels."""

from functools import cache

import numpy as np

__all__ = ["MATERIALS", "TILE", "tile", "tile_bank"]

TILE = 256
MATERIALS = ["plain", "fur", "wool", "wood", "metal", "cloth", "leaf", "stripes", "checks", "grass", "asphalt", "brick",
             "planks", "tiles", "water", "cobbles", "cloud", "foliage", "gravel"]  # fmt: skip

# How much brightness changes, relative to the colour.
_STRENGTH = {"plain": 0.03, "fur": 0.16, "wool": 0.26, "wood": 0.14, "metal": 0.05, "cloth": 0.08, "leaf": 0.16,
             "stripes": 0.22, "checks": 0.2, "grass": 0.24, "asphalt": 0.1, "brick": 0.2, "planks": 0.16, "tiles": 0.12,
             "water": 0.2, "cobbles": 0.2, "cloud": 1.0, "foliage": 0.4, "gravel": 0.28}  # fmt: skip


@cache
def tile(name: str) -> np.ndarray:
    """Return the texture of a material: float32 (TILE, TILE), periodic."""
    rng = np.random.default_rng(MATERIALS.index(name))
    pattern = _PATTERNS.get(name, lambda rng: _noise(rng, 3, 3))(rng)
    return (_STRENGTH[name] * pattern).astype(np.float32)


@cache
def tile_bank() -> np.ndarray:
    """Return all textures in the order of MATERIALS: float32 (M, TILE, TILE)."""
    return np.stack([tile(name) for name in MATERIALS])


def _noise(rng: np.random.Generator, across: float, down: float) -> np.ndarray:
    """Periodic smooth noise whose blobs are about `across` × `down` pixels large; unit spread."""
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) * np.exp(-8 * ((fy * down) ** 2 + (fx * across) ** 2))
    field = np.fft.irfft2(spectrum, (TILE, TILE))
    field -= field.mean()
    return np.clip(field / (2 * field.std()), -1, 1)


def _fractal(rng: np.random.Generator, across: float, down: float, octaves: int = 4) -> np.ndarray:
    return sum(0.6**k * _noise(rng, across / 2**k, down / 2**k) for k in range(octaves)) / 1.6


def _wool(rng: np.random.Generator) -> np.ndarray:
    return 1.3 * np.abs(_noise(rng, 6, 6)) + 0.6 * np.abs(_noise(rng, 3, 3)) - 0.6


def _rows(height: int, gap: float) -> np.ndarray:
    """Dark joints every `height` rows: (TILE, 1)."""
    return -(np.arange(TILE)[:, None] % height < gap).astype(float)


def _bricks(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    rows = np.arange(TILE)[:, None] // height
    columns = (np.arange(TILE)[None] + rows % 2 * width // 2) % TILE
    tone = rng.uniform(-0.5, 0.5, (TILE // height + 1, TILE // width + 1))[rows, columns // width]
    joints = (np.arange(TILE)[:, None] % height < 1) | (columns % width < 1)
    return np.where(joints, 1.0, tone) + 0.2 * _noise(rng, 2, 2)


def _planks(rng: np.random.Generator) -> np.ndarray:
    columns = np.arange(TILE)[None] // 16
    ends = (np.arange(TILE)[:, None] + 37 * columns) % 128
    tone = rng.uniform(-0.6, 0.6, (17, 8))[columns, (np.arange(TILE)[:, None] + 37 * columns) % TILE // 128]
    joints = (np.arange(TILE)[None] % 16 < 1) | (ends < 2)
    return np.where(joints, -1.0, tone + 0.3 * _noise(rng, 2, 40))


def _checks(step: int) -> np.ndarray:
    band = (np.arange(TILE) // step % 2).astype(float)
    return band[:, None] + band[None] - 1.0


def _cobbles(rng: np.random.Generator) -> np.ndarray:
    return np.minimum(1.0, 3 * np.abs(_noise(rng, 14, 14))) - 0.6 + 0.3 * _noise(rng, 3, 3)


_PATTERNS = {
    "fur": lambda rng: _noise(rng, 7, 2.5),
    "wool": _wool,
    "wood": lambda rng: 0.7 * _noise(rng, 40, 3) + 0.3 * _noise(rng, 12, 1.5),
    "cloth": lambda rng: _noise(rng, 12, 12) + 0.3 * _noise(rng, 2, 2),
    "leaf": lambda rng: _noise(rng, 4, 4),
    "stripes": lambda rng: 2.0 * (np.arange(TILE)[:, None] // 4 % 2) - 1.0 + 0 * _noise(rng, 2, 2),
    "checks": lambda rng: _checks(4),
    "grass": lambda rng: 0.6 * _noise(rng, 3, 9) + 0.6 * _noise(rng, 30, 50),
    "asphalt": lambda rng: 0.6 * _noise(rng, 2, 2) + 0.7 * _noise(rng, 40, 60),
    "brick": lambda rng: _bricks(rng, 16, 8),
    "planks": _planks,
    "tiles": lambda rng: _bricks(rng, 32, 32),
    "water": lambda rng: 0.7 * _noise(rng, 24, 6) + 0.5 * _noise(rng, 8, 3),
    "cobbles": _cobbles,
    "cloud": lambda rng: _fractal(rng, 90, 45),
    "foliage": lambda rng: 0.7 * _noise(rng, 9, 9) + 0.6 * _noise(rng, 4, 4),
    "gravel": lambda rng: _noise(rng, 3, 3),
}
