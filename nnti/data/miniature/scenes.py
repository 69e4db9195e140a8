"""Where the things of the VOC miniature are: sky, meadow, water, street and room, without any thing in them.

Each function takes a random generator and (width, height) in pixels and returns an RGB picture and its horizon: the
row at which the ground begins, on which things stand.
"""

from random import Random

from PIL import Image, ImageDraw

from nnti.data.miniature.paint import dimmed, gradient, tone
from nnti.data.miniature.sprites import varied

Size = tuple[int, int]
Scene = tuple[Image.Image, int]


def heaven(random: Random, size: Size, horizon: int) -> Image.Image:
    """Return a picture of the sky with some clouds above the horizon: RGB."""
    low = tone(random, random.choice((0.1, 0.55, 0.58)), 0.11, 0.96)
    image = gradient(size, tone(random, 0.58, random.uniform(0.15, 0.6), 0.9), low)
    for _ in range(random.randint(0, 4)):
        cloud = varied(random, "cloud", image.height * random.uniform(0.12, 0.3))
        image.paste(cloud, (random.randint(-30, image.width), random.randint(-10, horizon // 2)), cloud)
    return image


def sky(random: Random, size: Size) -> Scene:
    """Clouds, and hills far below."""
    image = heaven(random, size, size[1])
    _hills(random, image, size[1])
    return image, size[1]


def meadow(random: Random, size: Size) -> Scene:
    """Grass with flowers, trees at the horizon, hills behind."""
    width, height = size
    horizon = round(height * random.uniform(0.3, 0.5))
    image = heaven(random, size, horizon)
    _hills(random, image, horizon)
    grass = tone(random, 0.27, 0.55, 0.66)
    image.paste(gradient((width, height - horizon), grass, dimmed(grass, 0.75)), (0, horizon))
    for _ in range(random.randint(0, 5)):
        tree = varied(random, "tree", height * random.uniform(0.14, 0.3))
        image.paste(tree, (random.randint(-20, width), horizon - round(tree.height * 0.9)), tree)
    pen = ImageDraw.Draw(image)
    for _ in range(120):  # blades of grass, longer where they are nearer
        x, y = random.uniform(0, width), random.uniform(horizon + 4, height)
        pen.line((x, y, x + random.uniform(-3, 3), y - 2 - 9 * (y - horizon) / height), dimmed(grass, 1.25), 2)
    for _ in range(random.randint(0, 6)):
        flower = varied(random, "flower", height * random.uniform(0.05, 0.08))
        image.paste(flower, (random.randint(0, width), random.randint(horizon + 6, height)), flower)
    return image, horizon


def water(random: Random, size: Size) -> Scene:
    """A lake or the sea with waves, hills behind."""
    width, height = size
    horizon = round(height * random.uniform(0.3, 0.5))
    image = heaven(random, size, horizon)
    _hills(random, image, horizon)
    sea = tone(random, 0.55, 0.6, 0.68)
    image.paste(gradient((width, height - horizon), dimmed(sea, 1.15), dimmed(sea, 0.8)), (0, horizon))
    pen = ImageDraw.Draw(image)
    for _ in range(70):
        x, y = random.uniform(0, width), random.uniform(horizon + 3, height)
        near = (y - horizon) / (height - horizon)
        half = width * (0.015 + 0.06 * near)
        pen.arc((x - half, y - 6 * near, x + half, y + 6 * near + 2), 200, 340, dimmed(sea, 1.35), 2)
    return image, horizon


def street(random: Random, size: Size) -> Scene:
    """A row of houses across the road."""
    width, height = size
    horizon = round(height * random.uniform(0.45, 0.6))
    image = heaven(random, size, horizon)
    pen, left = ImageDraw.Draw(image), random.randint(-60, 0)
    while left < width:
        right = left + random.randint(60, 150)
        _facade(random, pen, (left, round(horizon * random.uniform(0, 0.5)), right, horizon))
        left = right + random.choice((0, 0, random.randint(10, 40)))
    stone, asphalt = tone(random, 0.1, 0.08, 0.72), tone(random, 0.62, 0.06, 0.42)
    kerb = round(horizon + (height - horizon) * random.uniform(0.15, 0.3))
    pen.rectangle((0, horizon, width, kerb), stone)
    image.paste(gradient((width, height - kerb), asphalt, dimmed(asphalt, 0.8)), (0, kerb))
    middle = kerb + 0.55 * (height - kerb)
    for x in range(random.randint(-60, 0), width, 90):  # the line in the middle of the road
        pen.rectangle((x, middle, x + 45, middle + 5), dimmed(asphalt, 1.9))
    return image, horizon


def room(random: Random, size: Size) -> Scene:
    """A wall with wallpaper, pictures or windows, a floor of boards, perhaps a rug."""
    width, height = size
    paper, wood = tone(random, random.random(), 0.25, 0.85), tone(random, 0.08, 0.5, 0.6)
    image, horizon = Image.new("RGB", size, paper), round(height * random.uniform(0.55, 0.7))
    pen = ImageDraw.Draw(image)
    for x in range(random.randint(0, 20), width, random.choice((40, 1000))):
        pen.rectangle((x, 0, x + 18, horizon), dimmed(paper, 0.94))
    for x in random.sample((0.08, 0.38, 0.68), random.randint(0, 2)):
        piece = varied(random, "on the wall", height * random.uniform(0.2, 0.3), mirror=False)
        image.paste(piece, (round(width * x), round(horizon * random.uniform(0.1, 0.25))), piece)
    image.paste(gradient((width, height - horizon), wood, dimmed(wood, 0.8)), (0, horizon))
    for x in range(-width, 2 * width, 36):  # boards run towards a point above the horizon
        pen.line((width / 2 + (x - width / 2) * 0.5, horizon, x, height), dimmed(wood, 0.7), 2)
    pen.rectangle((0, horizon - 9, width, horizon), dimmed(paper, 1.15))
    if random.random() < 0.5:
        rug = 0.12 * width, 0.8 * horizon + 0.2 * height, 0.88 * width, 0.2 * horizon + 0.8 * height
        pen.ellipse(rug, tone(random, random.random(), 0.45, 0.6))
    return image, horizon


def _hills(random: Random, image: Image.Image, foot: int) -> None:
    pen = ImageDraw.Draw(image)
    for hue in (0.55, 0.4):
        middle, reach = random.uniform(0, image.width), image.width * random.uniform(0.4, 0.8)
        high = image.height * random.uniform(0.04, 0.14)
        pen.ellipse((middle - reach, foot - high, middle + reach, foot + high), tone(random, hue, 0.3, 0.68))


def _facade(random: Random, pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    wall, glass = tone(random, random.choice((0.03, 0.08, 0.12, 0.58)), 0.3, 0.75), tone(random, 0.57, 0.3, 0.45)
    pen.rectangle(box, wall)
    pen.rectangle((left, top, right, top + 8), dimmed(wall, 0.7))
    for y in range(top + 20, bottom - 30, 42):
        for x in range(left + 10, right - 20, 30):
            pen.rectangle((x, y, x + 16, y + 24), dimmed(glass, random.choice((0.8, 1, 1.4))), dimmed(wall, 1.2))


SCENES = {"sky": sky, "meadow": meadow, "water": water, "street": street, "room": room}
