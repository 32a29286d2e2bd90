"""Pictures, uint8 [n, side, side, 3], changed so that the ranker learns what counts: moved, in other colours, or drawn in another way."""
import numpy as np


def moved(images, rng, most=4):
    """Each picture moved by a few pixels; the edge is repeated."""
    side = images.shape[1]
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), "edge")
    places = [(rng.randint(0, 2 * most), rng.randint(0, 2 * most)) for _ in images]
    return np.stack([image[top : top + side, left : left + side] for image, (top, left) in zip(padded, places)])


def recoloured(images, rng):
    """Each picture with its colours exchanged, and some inverted: what is in it can be told by its shape alone."""
    parts = [image[..., rng.sample(range(3), 3)] if rng.random() < 0.7 else image[..., [rng.randrange(3)] * 3] for image in images]
    return np.array([255 - part if rng.random() < 0.4 else part for part in parts], np.uint8).reshape(images.shape)


def redrawn(images, rng):
    """Each picture as its lines or as two tones, in two colours, or under a pattern: what is in it can be told neither by its colours nor by its surface."""
    def color():
        return np.array([rng.random() for _ in range(3)], np.float32) * 255

    def of_two(share):
        return share[..., None] * color() + (1 - share[..., None]) * color()

    def lines(image):
        gray = np.pad(image.mean(-1), ((0, 1), (0, 1)), "edge")
        steps = np.abs(np.diff(gray, axis=0)[:, :-1]) + np.abs(np.diff(gray, axis=1)[:-1])
        return of_two(np.minimum(1, steps * rng.uniform(0.7, 2) / (np.quantile(steps, 0.97) + 1)))

    def tones(image):
        gray = image.mean(-1)
        return of_two((gray > np.quantile(gray, rng.uniform(0.25, 0.75))).astype(np.float32))

    def patterned(image):
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] * (2 * np.pi / rng.uniform(5, 16))
        turn, share = rng.uniform(0, np.pi), rng.uniform(0.3, 0.7)
        wave = np.sin(rows * np.cos(turn) + columns * np.sin(turn))
        wave = wave if rng.random() < 0.5 else wave * np.sin(columns * np.cos(turn) - rows * np.sin(turn))
        hidden = share * (wave > rng.uniform(-0.2, 0.4))[..., None]
        return image * (1 - hidden) + color() * hidden

    return np.array([rng.choice((lines, tones, patterned))(image.astype(np.float32)) for image in images]).reshape(images.shape).astype(np.uint8)
