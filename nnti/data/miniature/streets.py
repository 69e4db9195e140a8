"""Streets: houses, hedges, walls and gardens in rows along a road, and whoever is on it; none is like another."""

from random import Random

import numpy as np
from PIL import Image

from nnti.data.miniature.paint import Colour, dimmed, tone
from nnti.data.miniature.scenes import heaven
from nnti.data.miniature.view import Spot, View

# where things stand: 0 to 1 lies on the road, from its middle, 1 to 2 on the pavement, 2 to 3 beyond it
LANE, KERB, POST, WALK, VERGE = (0.4, 0.6), (0.7, 0.95), (1.05, 1.3), (1.1, 1.9), (2.2, 3)
# class → sprites, height in metres, where it stands
THINGS = {
    "car": ("car", 1.6, LANE),
    "truck": ("truck", 3.0, LANE),
    "bus": ("bus", 3.1, LANE),
    "train": ("train", 3.6, LANE),
    "person": ("person", 1.8, WALK),
    "rider": ("rider", 2.0, KERB),
    "bicycle": ("bicycle", 1.2, WALK),
    "motorcycle": ("motorbike", 1.4, KERB),
    "traffic light": ("traffic light", 1.3, POST),
    "traffic sign": ("traffic sign", 1.1, POST),
    "vegetation": ("tree", 5.0, VERGE),
    "static": ("bin", 1.1, WALK),
    "dynamic": ("dog", 0.9, WALK),
}
LARGE = ("truck", "bus", "train")
POSTS = {"pole": (5.5, 0.16), "traffic light": (2.5, 0.1), "traffic sign": (1.9, 0.07)}  # height, half width in metres
LOTS = ("building", "wall", "fence", "vegetation", "terrain")
QUARTERS = ((10, 1, 1, 1, 1), (5, 2, 2, 2, 2), (2, 2, 3, 5, 4))  # how often each kind of lot: city, suburb, village
# what the streets show, in turn
FEATURES = (*LARGE, "car", "person", "rider", "bicycle", "motorcycle", "traffic light", "traffic sign", "pole", *LOTS)


def draw_street(seed: str, feature: str) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """Draw a street with one of `FEATURES` near enough to be seen; return what `View.finished` does."""
    street = _Street(View(Random(seed)), feature)
    street.sky()
    street.ground()
    for side in (-1, 1):
        street.row(side)
    for z, x, name in sorted(street.cast(), reverse=True):
        street.place(name, x, z)
    if street.random.random() < 0.6:
        street.bonnet()
    return street.view.finished()


class _Street:
    """One street: its sizes in metres, and what is drawn of it, from far to near."""

    def __init__(self, view: View, feature: str):
        self.view, self.feature, self.random = view, feature, view.random
        random = view.random
        self.quarter = random.choice(QUARTERS)
        self.road, self.walk = random.uniform(3.2, 5.5), random.uniform(1.6, 3.0)  # half the road, the pavement
        self.edge = self.road + self.walk
        self.verge = random.uniform(1.5, 5) if feature in ("terrain", "vegetation") else random.choice((0, 0, 1, 2.5))
        start = random.uniform(11, 24)
        self.junction = (start, start + random.uniform(6, 9)) if random.random() < 0.35 else None
        self.tracks = feature == "train" or random.random() < 0.08
        self.lane = random.choice((-1, 1)) * self.road / 2  # where the tracks lie

    def sky(self) -> None:
        """Clouds, and what closes the street far away."""
        random, image = self.random, self.view.image
        image.paste(heaven(random, image.size, image.height // 2))
        for _ in range(random.randint(6, 14)):
            left, z, high = random.uniform(-70, 60), random.uniform(90, 160), random.uniform(4, 14)
            name, colour = random.choice((("vegetation", (0.33, 0.3, 0.5)), ("building", (0.08, 0.12, 0.68))))
            self.view.wall(name, tone(random, *colour), (left, z), (left + random.uniform(5, 14), z), 0, high)

    def ground(self) -> None:
        """Terrain, pavements, the road with its markings, perhaps a street that crosses, perhaps tracks."""
        fill, road, lane = self.view.ground, self.road, self.lane
        stone, asphalt = tone(self.random, 0.05, 0.14, 0.7), tone(self.random, 0.62, 0.08, 0.36)
        white = dimmed(asphalt, 2.1)
        fill("terrain", tone(self.random, 0.22, 0.45, 0.55), -400, 400)
        fill("sidewalk", stone, -self.edge, self.edge)
        if self.junction:
            near, far = self.junction
            fill("sidewalk", stone, -80, 80, near - 1, far + 1)
            fill("road", asphalt, -80, 80, near, far)
        fill("road", asphalt, -road, road)
        for z in range(2, 80, 6):
            fill("road", white, -0.09, 0.09, z, z + 3)
        if self.tracks:
            fill("rail track", dimmed(asphalt, 1.15), lane - 1.2, lane + 1.2)
            for rail in (lane - 0.75, lane + 0.75):
                fill("rail track", dimmed(asphalt, 0.6), rail - 0.08, rail + 0.08)
        if self.junction:
            for x in np.arange(-road + 0.3, road - 0.3, 1.1):  # a zebra crossing
                fill("road", white, x, x + 0.55, near - 3.5, near - 1)

    def row(self, side: int) -> None:
        """Everything along one side of the street, from far to near."""
        for number, (near, far) in reversed(list(enumerate(self.lots()))):
            kind = self.random.choices(LOTS, self.quarter)[0]
            if side * self.lane > 0 and number < 3 and self.feature in LOTS:
                kind = self.feature
            if kind != "building" and (kind == "terrain" or self.random.random() < 0.5):  # a tree behind, or alone
                x = side * (self.edge + self.verge + self.random.uniform(1, 5))
                self.view.stand("vegetation", "tree", (x, 0, (near + far) / 2), 5)
            if kind == "building":
                self.house(side, near, far)
            elif kind != "terrain":
                self.barrier(kind, side, near, far)

    def lots(self) -> list[tuple[float, float]]:
        """Return where lots begin and end along one side, metres, nearest first; none lies on the junction."""
        lots, near = [], 2.5
        while near < 90:
            far = near + self.random.uniform(5, 13)
            if not (self.junction and near < self.junction[1] and far > self.junction[0]):
                lots.append((near, far))
            near = far + self.random.choice((0, 0, 0, 2))
        return lots

    def house(self, side: int, near: float, far: float) -> None:
        """Two walls of a house, along the street and across, with their windows."""
        view, random, x = self.view, self.random, side * (self.edge + self.verge)
        floors, storey = random.randint(2, 6), random.uniform(2.7, 3.4)
        high = floors * storey + random.uniform(0.3, 1.5)
        hue, saturation = random.choice((0.02, 0.07, 0.1, 0.12, 0.58)), random.choice((0.1, 0.3, 0.45))
        colour, glass = tone(random, hue, saturation, random.choice((0.55, 0.7, 0.85))), tone(random, 0.58, 0.3, 0.35)
        corner = x, near
        for end, light in (((x + side * 9, near), 0.8), ((x, far), 1)):
            view.wall("building", dimmed(colour, light), corner, end, 0, high)
            view.wall("building", dimmed(colour, 0.6 * light), corner, end, high - 0.4, high)
            for floor in range(floors if near < 50 else 0):
                self.windows(glass, corner, end, floor * storey)

    def windows(self, glass: Colour, start: Spot, end: Spot, floor: float) -> None:
        """A row of windows in a wall above the line from `start` to `end`; `floor` is metres above the ground."""
        begin, whole = np.array(start), np.subtract(end, start)
        count = max(1, int(np.abs(whole).max() / 2.4))
        for number in range(count):
            left, right = begin + whole * (number + 0.25) / count, begin + whole * (number + 0.72) / count
            light = self.random.choice((0.8, 1, 1.5))
            self.view.wall("building", dimmed(glass, light), left, right, floor + 0.9, floor + 2.3)

    def barrier(self, kind: str, side: int, near: float, far: float) -> None:
        """A wall with courses of bricks, a fence of boards, or a hedge."""
        random, x, details = self.random, side * (self.edge + self.verge), []
        if kind == "wall":
            colour, light, high = tone(random, 0.05, 0.3, 0.48), 1.3, random.uniform(1.9, 3)
            details = [((x, near), (x, far), y, y + 0.06) for y in np.arange(0.4, high, 0.4)]
        elif kind == "fence":
            colour, light, high = tone(random, 0.07, 0.6, 0.35), 1.7, random.uniform(1.3, 2)
            details = [((x, z), (x, z + 0.22), 0.1, high) for z in np.arange(near, far, 0.5)]
        else:
            colour, light, high = tone(random, 0.31, 0.55, 0.38), 1, random.uniform(1.2, 2.6)
        self.view.wall(kind, colour, (x, near), (x, far), 0, high)
        for detail in details:
            self.view.wall(kind, dimmed(colour, light), *detail)

    def cast(self) -> list[tuple[float, float, str]]:
        """Return who and what is there: metres away, metres to the right, class."""
        random, side = self.random, self.random.choice((-1, 1))
        names = random.choices(("car", *LARGE), (6, 1, 1, 1), k=random.randint(1, 3))
        names += ["person"] * random.randint(1, 3)
        names += [name for name in (*THINGS, "pole") if name not in LARGE and random.random() < 0.3]
        things = [(random.uniform(8, 26), name) for name in names]
        if self.feature in (*THINGS, "pole"):
            things.append((random.uniform(6.5, 10), self.feature))
        cast = []
        for z, name in things:
            place = THINGS[name][2] if name in THINGS else POST
            side = -side if place == LANE else random.choice((-1, 1))  # vehicles take turns
            x = side * np.interp(random.uniform(*place), range(4), (0, self.road, self.edge, self.edge + self.verge))
            x = self.lane if name == "train" and self.tracks else x
            cast.append((max(z + 5 * (name in (*LARGE, *POSTS)), self.view.visible_from(x)), x, name))
        return cast

    def place(self, name: str, x: float, z: float) -> None:
        """Set up one thing of the cast, on its post if it has one."""
        foot, half = POSTS.get(name, (0, 0))
        if foot:
            grey = tone(self.random, 0.6, 0.08, 0.42)
            self.view.wall("pole", grey, (x - half, z), (x + half, z), 0, foot)
        if name == "pole":  # a lamp's arm over the road
            self.view.wall("pole", grey, (x, z), (x - np.sign(x) * 1.6, z), foot - 0.2, foot)
        else:
            kind, high, _ = THINGS[name]
            self.view.stand(name, kind, (x, foot, z), high, mirror=name != "traffic sign")

    def bonnet(self) -> None:
        """The front of the car that the camera is in."""
        view, row = self.view, self.view.height * self.random.uniform(0.91, 0.97)  # of its far end
        y, z = view.eye - 0.8, 0.8 * view.focus / (row - view.vanish[1])
        outline = ((-1.2, 0.5), (-1.2, 0.85 * z), (-0.7, z), (0.7, z), (1.2, 0.85 * z), (1.2, 0.5))
        colour = tone(self.random, self.random.random(), 0.2, 0.2)
        view.patch("ego vehicle", colour, *((x, y, away) for x, away in outline))
