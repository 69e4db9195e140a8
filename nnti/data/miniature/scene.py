"""One image of the miniature: a place, one to four objects in it, the camera, and the label with its void contour."""

from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from nnti.data.miniature import clutter
from nnti.data.miniature.backdrop import BACKDROPS, INDOOR
from nnti.data.miniature.objects import KINDS, PERSON, companion
from nnti.data.miniature.render import Light, Pose, Stamp, cast_shadow, paste, stamp
from nnti.data.miniature.sketch import Sketch
from nnti.data.miniature.stage import Stage, add_sketch
from nnti.data.miniature.textures import TILE

__all__ = ["VOID", "photograph", "render_scene"]

VOID = 255
AEROPLANE, BIRD, BOAT = 1, 3, 4
VISIBLE = 0.01  # the least share of the image that the scene's own class must cover
ATTEMPTS = 6
_FREQUENT = (PERSON, PERSON)  # joins other objects more often than any other class, as in VOC


@dataclass(frozen=True)
class _Weather:
    sky: tuple[tuple[int, int, int], tuple[int, int, int]]  # zenith, horizon
    contrast: float
    shadow: float
    tint: tuple[float, float, float]
    gain: float


_WEATHERS = [
    _Weather(((70, 130, 204), (190, 216, 236)), 1.15, 0.5, (1.02, 1.0, 0.96), 1.03),  # bright
    _Weather(((96, 152, 214), (214, 228, 232)), 1.05, 0.42, (1.01, 1.0, 0.98), 1.0),  # fair
    _Weather(((150, 162, 176), (208, 212, 212)), 0.7, 0.24, (0.97, 0.99, 1.02), 0.95),  # overcast
    _Weather(((74, 84, 134), (242, 178, 126)), 1.2, 0.45, (1.06, 0.95, 0.86), 0.95),  # dusk
    _Weather(((128, 162, 196), (250, 228, 194)), 1.1, 0.45, (1.05, 0.99, 0.9), 0.98),  # morning
]
_LAMPS = [((1.0, 1.0, 1.0), 1.0), ((1.08, 0.97, 0.84), 0.9), ((0.95, 1.0, 1.05), 0.94), ((1.02, 1.0, 0.97), 1.06)]


@dataclass
class _Actor:
    """An object to draw: its class (0 for clutter in front), its sketch, its place, and the row of its feet."""

    number: int
    sketch: Sketch
    pose: Pose
    feet: float
    floating: bool = False


def render_scene(number: int, seed: str) -> tuple[Image.Image, np.ndarray]:
    """Return the RGB image and the label, uint8 (H, W), of a scene in which class `number` is surely visible."""
    for attempt in range(ATTEMPTS):
        rng = Random(f"{seed}-{attempt}")
        stage, place = _set_stage(rng, number)
        actors = _cast(rng, stage, place, number)
        label = _perform(stage, actors)
        if (label == number).mean() > VISIBLE:
            break
    return photograph(stage, rng), label


def _set_stage(rng: Random, number: int) -> tuple[Stage, str]:
    place = rng.choice(KINDS[number].scenes) if rng.random() < 0.9 else rng.choice(_unusual_places(number))
    long, short = 200, rng.randint(130, 170)
    width, height = (short, long) if rng.random() < 0.25 else (long, short)
    weather, side = rng.choice(_WEATHERS), rng.choice([-1, 1]) * rng.uniform(0.35, 0.9)
    light = Light(side, weather.contrast, weather.shadow, weather.tint, weather.gain)
    if place in INDOOR:
        tint, gain = rng.choice(_LAMPS)
        light = Light(side, rng.uniform(0.8, 1.05), 0.34, tint, gain)
    stage = Stage(np.zeros((height, width, 3), np.float32), light, weather.sky, rng=rng)
    BACKDROPS[place](stage)
    if rng.random() < 0.45:  # the background is out of focus
        _blur(stage.picture, rng.uniform(0.5, 1.3))
    return stage, place


def _unusual_places(number: int) -> list[str]:
    """Places where a class stands on firm ground though it is seldom there: a sofa in a meadow, a cow in the street."""
    return (
        ["sky"]
        if number in (AEROPLANE, BIRD)
        else ["sea"]
        if number == BOAT
        else ["street", "meadow", "terrace", "park", "road"]
    )


def _blur(picture: np.ndarray, radius: float) -> None:
    soft = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    picture[:] = np.asarray(soft, np.float32)


def _cast(rng: Random, stage: Stage, place: str, number: int) -> list[_Actor]:
    """Choose and place the objects; the returned order is back to front."""
    width, height = stage.size
    share = rng.choice([rng.uniform(0.3, 0.45), rng.uniform(0.5, 0.72), rng.uniform(0.55, 0.78), rng.uniform(0.8, 1.0)])
    groups = [_group(rng, stage, place, number, share * (width * height) ** 0.5, [])]
    friends = [other for other, kind in KINDS.items() if place in kind.scenes]
    friends += [number, *(_FREQUENT if PERSON in friends else ())]
    toy_metre = groups[0][0].pose.scale * _tall(groups[0][0].sketch) / KINDS[number].height
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        other = rng.choice(friends)
        size = KINDS[other].height * toy_metre * rng.choice([rng.uniform(0.5, 0.8), rng.uniform(0.8, 1.1)])
        size = min(max(size, 0.16 * height), 0.9 * height)
        groups.append(_group(rng, stage, place, other, size, groups))
    actors = [actor for group in sorted(groups, key=lambda group: group[0].feet) for actor in group]
    if rng.random() < 0.25 and place not in (*INDOOR, "sky", "sea"):
        tuft = rng.choice([clutter.tuft] * 3 + [clutter.bush, clutter.bush, clutter.lamp_post])
        scale = height * (0.9 if tuft is clutter.lamp_post else 0.4)
        actors.append(_Actor(0, tuft(rng), Pose(rng.uniform(0, width), height + 2, scale), height))
    return actors


def _tall(sketch: Sketch) -> float:
    _, low, _, high = sketch.bounds()
    return high - low


def _group(rng: Random, stage: Stage, place: str, number: int, size: float, others: list[list[_Actor]]) -> list[_Actor]:
    """Return an object about `size` pixels large and, sometimes, a person on it or a bottle upon it, back to front."""
    width, height = stage.size
    airborne = place == "sky" or (number == BIRD and place == "sea")
    flying = airborne and KINDS[number].aloft and rng.random() < 0.7  # a bird that does not fly sits on a branch
    sketch = KINDS[number].aloft(rng) if flying else KINDS[number].draw(rng)
    left, low, right, high = sketch.bounds()
    extent = high - low if others else ((right - left) * (high - low)) ** 0.5
    scale = min(size / extent, 1.15 * width / (right - left), 1.1 * height / (high - low))
    feet = _feet(rng, stage, airborne, scale * (high - low), scale * (high - low) / KINDS[number].height)
    x = _free_spot(rng, width, scale * (right - left), others)
    flip, turn = rng.random() < 0.5, rng.gauss(0, 0.12 if airborne else 0.025)
    pose = Pose(
        x - scale * (left + right) / 2 * (-1 if flip else 1),
        feet + scale * low,
        scale,
        flip,
        turn,
        rng.uniform(0.93, 1.07),
    )
    group = [_Actor(number, sketch, pose, feet, airborne or number == BOAT)]
    if airborne and number == BIRD and not flying:
        add_sketch(stage, clutter.branch(rng), x, feet, 0.5 * scale, flip=flip)
    other = companion(rng, number)
    if other and not airborne:
        guest, guest_sketch, (dx, dy), size, behind = other
        seat = Pose(pose.x - dx * scale if flip else pose.x + dx * scale, pose.y - dy * scale, size * scale, flip)
        group.insert(0 if behind else 1, _Actor(guest, guest_sketch, seat, feet, floating=True))
    return group


def _feet(rng: Random, stage: Stage, airborne: bool, tall: float, metre: float) -> float:
    """Return the pixel row an object `tall` pixels high stands on: the larger one metre looks, the nearer it is."""
    _, height = stage.size
    if airborne:
        return rng.uniform(0.15, 0.75) * height + tall / 2
    eye = rng.uniform(0.9, 1.5)  # metres above the ground
    feet = stage.horizon + eye * metre
    lowest = height * (1.12 if rng.random() < 0.25 else 0.98)
    return min(max(feet, stage.horizon + 0.22 * (height - stage.horizon), 0.45 * height, 0.6 * tall), lowest)


def _free_spot(rng: Random, width: int, wide: float, others: list[list[_Actor]]) -> float:
    """Return the x, of a few tries, that is farthest from the other objects; the first object comes near the middle."""
    if not others:
        return width * rng.uniform(0.35, 0.65)
    tries = [rng.uniform(0.05, 0.95) * width for _ in range(5)]
    return max(tries, key=lambda x: min(abs(x - group[0].pose.x) for group in others))


def _perform(stage: Stage, actors: list[_Actor]) -> np.ndarray:
    """Paint the actors into the picture, back to front, and return the label."""
    width, height = stage.size
    owner = np.zeros((height, width), np.uint8)  # 0 = background, k = the k-th actor
    for order, actor in enumerate(actors, start=1):
        mark = stamp(actor.sketch, actor.pose, stage.size, stage.light, stage.rng.randrange(TILE))
        if mark is None:
            continue
        if actor.number == BOAT:
            _reflect(stage.picture, mark, actor.feet)
        elif not actor.floating:
            cast_shadow(stage.picture, mark, actor.feet - 1, stage.light)
        paste(stage.picture, mark)
        owner[mark.window][mark.cover > 0.5] = order
    return _label(owner, np.array([0, *(actor.number for actor in actors)], np.uint8))


def _reflect(picture: np.ndarray, mark: Stamp, waterline: float) -> None:
    """Mirror a boat in the water, darkened and faint, in place."""
    base = int(min(max(waterline, 0), picture.shape[0]))
    rows = min(picture.shape[0] - base, max(0, base - mark.top), mark.cover.shape[0])
    if rows <= 0:
        return
    columns = mark.window[1]
    source = slice(base - mark.top - rows, base - mark.top)
    cover, colour = mark.cover[source][::-1], mark.colour[source][::-1]
    fade = np.linspace(0.5, 0.1, rows, dtype=np.float32)[: cover.shape[0], None, None]
    region = picture[base : base + cover.shape[0], columns]
    region += fade * (0.7 * colour - region * cover[..., None])


def _label(owner: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return class numbers with a contour of void, two pixels wide, around each object, laid on what is behind it.

    Clutter in front of an object is background, and so is the scenery: between those two no void is needed.
    """
    objects = np.where(numbers[owner] > 0, owner, 0)
    label = numbers[owner]
    label[np.where(label > 0, _frontmost(owner), _frontmost(objects)) > owner] = VOID
    return label


def _frontmost(owner: np.ndarray) -> np.ndarray:
    """Return the largest number within two pixels of each pixel (a 5 × 5 maximum)."""
    padded = np.pad(owner, 2)
    height, width = owner.shape
    rows = np.maximum.reduce([padded[shift : shift + height] for shift in range(5)])
    return np.maximum.reduce([rows[:, shift : shift + width] for shift in range(5)])


def photograph(stage: Stage, rng: Random) -> Image.Image:
    """Apply the light's colour, a vignette, a little blur and sensor noise."""
    width, height = stage.size
    down, across = (np.linspace(-1, 1, n, dtype=np.float32) ** 2 for n in (height, width))
    vignette = 1 - rng.uniform(0.02, 0.12) * (down[:, None] + across[None])
    picture = (
        stage.picture
        * (np.float32(stage.light.tint) * stage.light.gain * rng.uniform(1.02, 1.16))
        * vignette[..., None]
    )
    if rng.random() < 0.5:
        _blur(picture, rng.uniform(0.25, 0.6))
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal((height, width, 3), np.float32)
    picture += rng.uniform(0.8, 3.2) * (0.6 * noise + 0.6 * noise[..., :1])
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
