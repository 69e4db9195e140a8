"""The things of a street of the miniature Cityscapes, gathered in any order and drawn from far to near."""

from collections.abc import Callable, Iterable
from random import Random

from nnti.data.miniature import streets_vehicles as vehicles
from nnti.data.miniature.sketch import Sketch
from nnti.data.miniature.streets_layout import Layout
from nnti.data.miniature.streets_things import Piece
from nnti.data.miniature.streets_vehicles import Spot, Vehicle
from nnti.data.miniature.streets_view import Footprint, Street, View

__all__ = ["LONG", "Cast"]

LONG = {"bus": 12.0, "truck": 10.0, "tram": 28.0, "car": 7.0, "van": 7.0}  # metres that a vehicle takes up in a lane
_NAMES = {"van": "car", "tram": "train"}  # drawings that Cityscapes calls something else
_VARIANTS = 3  # different trees of a kind in one street


class Cast:
    """The things of a street, each with its distance: `play` draws them from the farthest to the nearest."""

    def __init__(self, view: View, layout: Layout, rng: Random):
        self.view, self.layout, self.rng = view, layout, rng
        self.footprints: list[Footprint] = []
        self._plants: dict[Callable, list[Sketch]] = {}
        self._items: list[tuple[float, int, Callable[[Street], None]]] = []

    def add(self, ahead: float, draw: Callable[[Street], None], footprint: Footprint | None = None) -> None:
        """Add something to be drawn by `draw(street)` when all that is farther than `ahead` metres is there."""
        self._items.append((-ahead, len(self._items), draw))
        if footprint:
            self.footprints.append(footprint)

    def play(self, street: Street) -> None:
        """Draw everything."""
        for _, _, draw in sorted(self._items, key=lambda item: item[:2]):
            draw(street)

    def vehicle(self, kind: str, spot: Spot) -> None:
        """Add a vehicle; `kind` is the name of a function of `streets_vehicles`."""
        if not self.view.camera.sees(spot.across, spot.ahead, LONG.get(kind, 5.0)):
            return
        made: Vehicle = getattr(vehicles, kind)(self.view, spot, self.rng)
        name = _NAMES.get(kind, kind)
        self.add(spot.ahead, lambda street: street.put(made.sketch, name, spot.ahead), made.footprint)

    def pieces(
        self,
        pieces: list[Piece],
        across: float,
        ahead: float,
        wide: float,
        tall: float,
        flip: bool = False,
        group: bool = False,
    ) -> None:
        """Add upright things at one place, `wide` and `tall` being the size of their shadow's body."""

        if not self.view.camera.sees(across, ahead, tall):
            return

        def draw(street: Street) -> None:
            for piece in pieces:
                street.stand(piece.sketch, piece.name, across, ahead, 1.0, flip, piece.outline, group)

        self.add(ahead, draw, Footprint.box(across, ahead, wide, min(wide, 0.5), tall))

    def plant(self, kind: Callable, across: float, ahead: float, metres: float) -> None:
        """Add a tree or a bush (a function of `clutter`) whose unit is `metres`."""
        self.grow([(kind, across, ahead, metres)])

    def grow(self, plants: Iterable[tuple[Callable, float, float, float]]) -> None:
        """Add many plants, given as `plant` takes them, with nothing between them: as one drawing, to be quick."""
        camera, together = self.view.camera, Sketch()
        seen = sorted((plant for plant in plants if camera.sees(*plant[1:])), key=lambda plant: -plant[2])
        for kind, across, ahead, metres in seen:
            ((column, row),) = camera.project([(across, 0.0, ahead)])
            flip = self.rng.random() < 0.5
            together.add(self._plant(kind), column, row, metres * camera.metre(ahead), flip)
            self.footprints.append(Footprint.box(across, ahead, 0.3 * metres, 0.3 * metres, 0.8 * metres))
        if seen:
            middle = seen[len(seen) // 2][2]
            self.add(middle, lambda street: street.put(together, "vegetation", middle))

    def _plant(self, kind: Callable) -> Sketch:
        if kind not in self._plants:
            self._plants[kind] = [kind(self.rng) for _ in range(_VARIANTS)]
        return self.rng.choice(self._plants[kind])
