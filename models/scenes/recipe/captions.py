"""Captions: one canonical sentence for a scene, and freer ones in the words people use."""
from .backgrounds import PLACES

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
PLURALS = {
    "fish": "fish", "fox": "foxes", "bus": "buses", "strawberry": "strawberries", "butterfly": "butterflies"}
PLACE_WORDS = {
    "at the beach": ("on the beach", "on a beach", "by the sea"), "in space": ("in outer space", "among the stars"),
    "on the grass": ("in the grass", "on a meadow", "in a field"), "in the snow": ("in winter", "on snow"),
    "at sunset": ("in the sunset", "in the evening"), "under the sea": ("under water", "underwater", "in the ocean"),
    "in the desert": ("in a desert", "on the sand"), "in the city at night": ("in a city at night", "in the city", "at night")}
STYLE_WORDS = {
    "sketch": ("a sketch of {}", "a pencil sketch of {}", "{} as a sketch", "a drawing of {}"),
    "silhouette": ("a silhouette of {}", "the silhouette of {}", "{} as a silhouette", "the shadow of {}"),
    "neon sign": ("a neon sign of {}", "{} as a neon sign", "a glowing neon {bare}", "neon sign of {}"),
    "pixel art": ("pixel art of {}", "{} in pixel art", "{} as pixel art", "a pixel art {bare}"),
    "sticker": ("a sticker of {}", "{} as a sticker", "a {bare} sticker", "sticker of {}")}
RELATION_WORDS = {
    "left": ("to the left of", "left of", "on the left of"), "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "on top of"), "below": ("below", "under", "beneath")}
CORNER_WORDS = ("at the {}", "in the {}", "in the {} corner", "at the {} corner")
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
COMPOSITE_WORDS = (
    "{a} in the shape of {b}", "{a} shaped like {b}", "{a} that looks like {b}", "{a} made of {b}", "{a} in the style of {b}")


def plural(name):
    return PLURALS.get(name, name + "s")


def article(words):
    return ("an " if words[0] in "aeiou" and not words.startswith("uni") else "a ") + words


def _pick(rng, options):
    """The canonical words, or with a generator any of them, the canonical ones half of the time."""
    return options[0] if rng is None or rng.random() < 0.5 else rng.choice(options)


def _noun(thing, rng, many=False):
    size = _pick(rng, SIZE_WORDS[thing.size]) if thing.size else ""
    color = _pick(rng, ("gray", "grey")) if thing.color == "gray" else thing.color
    return " ".join(word for word in (size, color, plural(thing.name) if many else thing.name) if word)


def _named(noun, rng):
    return noun if rng is not None and rng.random() < 0.08 else _pick(rng, (article(noun),) * 4 + ("the " + noun,))


def _background_words(scene, rng):
    if not scene.background:
        return ""
    if scene.background in PLACES:
        return " " + _pick(rng, (scene.background, *PLACE_WORDS[scene.background]))
    color = scene.background.removeprefix("plain:")
    return " " + _pick(rng, (f"on {article(color)} background", f"with {article(color)} background", f"against {article(color)} background", f"on {color}"))


def caption(scene, rng=None):
    """A sentence for the scene: the canonical one, or with a generator a free paraphrase."""
    thing = scene.things[0]
    bare = _noun(thing, rng, many=scene.kind == "count")
    subject = bare
    if scene.kind == "count":
        subject = _pick(rng, (NUMBERS[scene.count], NUMBERS[scene.count], str(scene.count))) + " " + bare
    elif scene.kind == "composite":
        words = _pick(rng, COMPOSITE_WORDS)
        subject = words.format(a=_named(bare, rng), b=article(scene.material))
        if rng is not None and rng.random() < 0.15:
            subject = article(f"{scene.material} {bare}")
    else:
        subject = _named(bare, rng)
    if scene.kind == "relation":
        other = _named(_noun(scene.things[1], rng), rng)
        words = _pick(rng, RELATION_WORDS[scene.relation])
        if rng is not None and rng.random() < 0.1:
            words = rng.choice(("next to", "and", "beside")) if scene.relation in ("left", "right") else "and"
        subject = f"{subject} {words} {other}"
    if scene.corner:
        subject += " " + _pick(rng, CORNER_WORDS).format(scene.corner)
    if scene.style:
        alone = scene.kind == "one" and not scene.corner
        words = _pick(rng, [words for words in STYLE_WORDS[scene.style] if alone or "{bare}" not in words])
        subject = words.format(subject, bare=bare)
    elif rng is not None and rng.random() < 0.08:
        subject = rng.choice(("a picture of ", "an image of ", "a photo of ", "an illustration of ")) + subject
    return subject + _background_words(scene, rng)
