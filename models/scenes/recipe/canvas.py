"""The picture's measures: how many image tokens it is wide, and where things lie on that grid.

All lengths are in eighths of an image token. Every sprite lies on whole tokens and covers whole ones, so that equal sprites have
equal codes wherever they are. Which layout is drawn is chosen once a process, from the configuration: `use`.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """`near`, `far`: the centres of the left or upper, and of the right or lower of two; `part`: the side of a sprite among several."""
    side: int
    near: int
    far: int
    part: int
    sizes: dict
    cameras: dict
    step: int  # the unsaid shift of a sprite
    bands: int  # of a texture, across a sprite

    @property
    def middle(self):
        return self.side // 2


LAYOUTS = {
    16: Layout(128, 32, 96, 48, {"small": 48, "": 80, "large": 112}, {"close-up": 160, "from above": 80, "in the distance": 32}, 16, 6),
    12: Layout(96, 24, 72, 32, {"small": 32, "": 64, "large": 80}, {"close-up": 112, "from above": 64, "in the distance": 24}, 8, 8)}


@dataclass
class Canvas:
    """What is drawn: a layout, and the pixels to the side of a token."""
    cells: int = 16
    pixels: int = 8

    @property
    def layout(self):
        return LAYOUTS[12 if self.cells % 12 == 0 else 16]

    @property
    def side(self):
        """Of a picture, in pixels."""
        return self.cells * self.pixels

    def px(self, length):
        """A length of the layout in pixels."""
        return length * self.side // self.layout.side


CANVAS = Canvas()


def use(cells, pixels):
    """Draw pictures of `cells` × `cells` image tokens of `pixels` × `pixels` pixels from now on."""
    CANVAS.cells, CANVAS.pixels = cells, pixels


def use_config(config):
    """Draw what the configuration says."""
    cells = config["transformer"]["grid"][0]
    use(cells, config["dvae"]["image_size"] // cells)
