"""What lines the streets of the miniature Cityscapes, lot by lot: houses, gardens, walls, fences, green."""

from nnti.data.miniature import clutter
from nnti.data.miniature import streets_houses as houses
from nnti.data.miniature.streets_cast import Cast
from nnti.data.miniature.streets_layout import Half, Lot
from nnti.data.miniature.streets_view import Footprint

__all__ = ["line_with"]


def line_with(cast: Cast, half: Half) -> None:
    """Add what stands on the lots of one side of the street."""
    for lot in half.lots:
        _LOTS[lot.kind](cast, half, lot)


def _house(cast: Cast, half: Half, lot: Lot, back: float = 0.0) -> None:
    across = half.front + half.side * back
    sketch = houses.house(cast.view, cast.rng, half.side, across, lot.near, lot.far, lot.tall)
    body = Footprint.box(across + 5 * half.side, (lot.near + lot.far) / 2, 10, lot.far - lot.near, lot.tall)
    cast.add(lot.far, lambda street: street.put(sketch, "building", lot.near), body)


def _villa(cast: Cast, half: Half, lot: Lot) -> None:
    """A house behind a front garden with a hedge, a fence or a wall."""
    rng, inset = cast.rng, 0.15 * (lot.far - lot.near)
    _house(cast, half, Lot("house", lot.near + inset, lot.far - inset, min(lot.tall, 7.5)), rng.uniform(3, 6))
    rng.choice([_hedge, _hedge, _fence, _wall])(cast, half, lot)
    if rng.random() < 0.5:
        cast.plant(clutter.tree, half.front + 2 * half.side, rng.uniform(lot.near, lot.far), rng.uniform(4, 7))


def _wall(cast: Cast, half: Half, lot: Lot) -> None:
    tall = cast.rng.uniform(1.2, 3.2)
    sketch = houses.wall(cast.view, cast.rng, half.side, half.front, lot.near, lot.far, tall)
    body = Footprint.box(half.front + 0.2 * half.side, (lot.near + lot.far) / 2, 0.4, lot.far - lot.near, tall)
    cast.add(lot.far - 0.1, lambda street: street.put(sketch, "wall", lot.near), body)
    if lot.kind == "wall":
        _grove(cast, half, lot, 0.7)


def _fence(cast: Cast, half: Half, lot: Lot) -> None:
    rng = cast.rng
    tall = rng.uniform(1.1, 2.4)
    sketch, outline = houses.fence(cast.view, rng, half.side, half.front, lot.near, lot.far, tall)
    cast.add(lot.far - 0.1, lambda street: street.put(sketch, "fence", lot.near, outline=outline))
    if lot.kind == "fence":
        rng.choice([_grove, _house])(cast, half, Lot("house", lot.near, lot.far, lot.tall), 3.0)


def _hedge(cast: Cast, half: Half, lot: Lot) -> None:
    at, metres, plants = lot.near, cast.rng.uniform(2.2, 4), []
    while at < lot.far:
        plants.append((clutter.bush, half.front + 0.5 * half.side, at, metres))
        at += max(0.5 * metres, 0.06 * at)
    cast.grow(plants)
    if lot.kind == "hedge":
        _grove(cast, half, lot, 0.5)


def _rail(cast: Cast, half: Half, lot: Lot) -> None:
    """A guard rail beside the road, with green behind it."""
    across = half.kerb + 0.5 * half.side
    sketch, outline = houses.guard_rail(cast.view, across, lot.near, lot.far)
    cast.add(lot.far, lambda street: street.put(sketch, "guard rail", lot.near, outline=outline))
    _grove(cast, half, lot, 1.5)


def _grove(cast: Cast, half: Half, lot: Lot, density: float = 1.0) -> None:
    """Trees and bushes on the far side of the front."""
    rng, count = cast.rng, density * (lot.far - lot.near) / (3.5 if lot.near < 50 else 7)
    plants = []
    for _ in range(round(count)):
        kind, metres = rng.choice([(clutter.tree, rng.uniform(6, 12))] * 3 + [(clutter.bush, rng.uniform(2, 4))])
        plants.append((kind, half.front + half.side * rng.uniform(1, 9), rng.uniform(lot.near + 2, lot.far), metres))
    cast.grow(plants)


def _gap(cast: Cast, half: Half, lot: Lot) -> None:
    """An empty lot: a yard with a few things in it."""
    if cast.rng.random() < 0.5:
        cast.plant(clutter.bush, half.front + 3 * half.side, lot.far, cast.rng.uniform(2, 4))


_LOTS = {
    "house": _house,
    "villa": _villa,
    "wall": _wall,
    "fence": _fence,
    "hedge": _hedge,
    "rail": _rail,
    "trees": _grove,
    "gap": _gap,
}
