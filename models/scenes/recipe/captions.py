"""Captions: one canonical sentence for a scene, and freer ones in the words people use."""
from .backgrounds import PLACES
from .sprites import MORE_STYLES, MORE_TEXTURES


def article(words):
    return ("an " if words[0] in "aeiou" and not words.startswith("uni") else "a ") + words


NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
PLURALS = {
    "cactus": "cactuses", "fish": "fish", "fox": "foxes", "bus": "buses", "strawberry": "strawberries", "butterfly": "butterflies"}
PLACE_WORDS = {
    "at the beach": ("on the beach", "on a beach", "by the sea", "at the seaside"),
    "in space": ("in outer space", "among the stars", "in front of the stars"),
    "on the grass": ("in the grass", "on a meadow", "in a field", "in the park"),
    "in the snow": ("in winter", "on snow", "in the cold", "in a snowy place"),
    "at sunset": ("in the sunset", "in the evening", "at dusk", "while the sun goes down"),
    "under the sea": ("under water", "underwater", "in the ocean", "at the bottom of the sea"),
    "in the desert": ("in a desert", "on the sand", "near a pyramid"),
    "in the city at night": ("in a city at night", "in the city", "in front of a skyline", "in a dark city")}
STYLE_WORDS = {
    "sketch": ("a sketch of {}", "a pencil sketch of {}", "{} as a sketch", "a drawing of {}", "a pencil drawing of {}", "{} drawn in pencil"),
    "silhouette": ("a silhouette of {}", "the silhouette of {}", "{} as a silhouette", "the shadow of {}", "{} in silhouette"),
    "neon sign": ("a neon sign of {}", "{} as a neon sign", "a glowing neon {bare}", "neon sign of {}", "a neon {bare}", "{} in neon"),
    "pixel art": ("pixel art of {}", "{} in pixel art", "{} as pixel art", "a pixel art {bare}", "a pixelated {bare}", "{} in an old video game"),
    "sticker": ("a sticker of {}", "{} as a sticker", "a {bare} sticker", "sticker of {}", "a sticker that shows {}"),
    **{style: (article(style) + " of {}", "{} as " + article(style)) for style in MORE_STYLES}}
RELATION_WORDS = {
    "left": ("to the left of", "left of", "on the left of", "on the left side of"),
    "right": ("to the right of", "right of", "on the right of", "on the right side of"),
    "above": ("above", "over", "on top of", "higher than"), "below": ("below", "under", "beneath", "underneath")}
CORNER_WORDS = ("at the {}", "in the {}", "in the {} corner", "at the {} corner", "in the {} of the picture")
SIZE_WORDS = {"small": ("small", "little", "smallish"), "large": ("large", "big", "huge", "giant")}
TEXTURE_WORDS = {
    "striped": ("striped", "stripy"), "dotted": ("dotted", "spotted", "polka-dot"), "checkered": ("checkered", "chequered", "checked"),
    **{texture: (texture,) for texture in MORE_TEXTURES}}
TEXTURE_PHRASES = {
    "striped": "with stripes", "dotted": "with dots", "checkered": "with a checkered pattern",
    **{texture: f"with a {texture} pattern" for texture in MORE_TEXTURES}}
LIGHT_WORDS = {
    "lit from the left": ("lit from the left", "with light from the left", "in light from the left"),
    "lit from the right": ("lit from the right", "with light from the right", "in light from the right"),
    "at night": ("at night", "by night", "in the moonlight", "under the moon")}
CAMERA_WORDS = {
    "close-up": ("a close-up of {}", "a close-up view of {}", "{} up close", "{} very close"),
    "from above": ("{} seen from above", "{} from above", "a view of {} from above", "looking down at {}"),
    "in the distance": ("{} in the distance", "{} far away", "a distant view of {}", "{} seen from far away")}
COMPOSITE_WORDS = (
    "{a} in the shape of {b}", "{a} shaped like {b}", "{a} that looks like {b}", "{a} made of {b}", "{a} in the style of {b}", "{a} imitating {b}")
PANEL_WORDS = (
    "the exact same {noun} on the top as {style} on the bottom", "the same {noun} on the top as {style} on the bottom",
    "{named} on the top and the same {noun} as {style} on the bottom", "{named} at the top, and below it the same as {style}",
    "the same {noun} on the bottom as {style}", "{named} above and {style} of the same {noun} below")
# The last, two panels alike, is never drawn, but an alternative to the others.
PANEL_STYLES = {
    "sketch": "a sketch", "silhouette": "a silhouette", "neon sign": "a neon sign", "pixel art": "pixel art", "sticker": "a sticker", "": "a picture",
    **{style: article(style) for style in MORE_STYLES}}
OPENINGS = (
    "a picture of ", "an image of ", "a photo of ", "an illustration of ", "a painting of ", "this is ", "there is ", "draw ", "show me ", "please draw ")


def plural(name):
    return PLURALS.get(name, name + "s")


def _pick(rng, options):
    """The canonical words, or with a generator any of them, the canonical ones half of the time."""
    return options[0] if rng is None or rng.random() < 0.5 else rng.choice(options)


def _noun(thing, rng, many=False):
    """Size, texture and colour before the name; now and then the texture behind it."""
    size = _pick(rng, SIZE_WORDS[thing.size]) if thing.size else ""
    color = _pick(rng, ("gray", "grey")) if thing.color == "gray" else thing.color
    name, texture, behind = plural(thing.name) if many else thing.name, "", ""
    if thing.texture:
        texture = _pick(rng, TEXTURE_WORDS[thing.texture])
        if rng is not None and rng.random() < 0.2:
            texture, behind = "", TEXTURE_PHRASES[thing.texture]
    middle = (texture, color) if rng is None or rng.random() < 0.7 else (color, texture)
    return " ".join(word for word in (size, *middle, name, behind) if word)


def _named(noun, rng):
    return noun if rng is not None and rng.random() < 0.08 else _pick(rng, (article(noun),) * 4 + ("the " + noun,))


def _background_words(scene, rng):
    if not scene.background:
        return ""
    if scene.background in PLACES:
        return " " + _pick(rng, (scene.background, *PLACE_WORDS[scene.background]))
    color = scene.background.removeprefix("plain:")
    phrases = ("on {} background", "with {} background", "against {} background", "in front of {} background")
    return " " + _pick(rng, (*(phrase.format(article(color)) for phrase in phrases), f"on {color}"))


def _relation(scene, subject, rng):
    other = _named(_noun(scene.things[1], rng), rng)
    words = _pick(rng, RELATION_WORDS[scene.relation])
    if rng is not None and rng.random() < 0.1:
        words = rng.choice(("next to", "and", "beside", "with")) if scene.relation in ("left", "right") else "and"
    return f"{subject} {words} {other}"


def _subject(scene, bare, rng):
    """What is there, before its place in the picture, style, camera and background."""
    if scene.kind == "count":
        return _pick(rng, (NUMBERS[scene.count], NUMBERS[scene.count], str(scene.count))) + " " + bare
    if scene.kind == "panels":
        return _pick(rng, PANEL_WORDS).format(noun=bare, named=_named(bare, rng), style=PANEL_STYLES[scene.panel])
    if scene.kind == "composite":
        if rng is not None and rng.random() < 0.15:
            return article(f"{scene.material} {bare}")
        return _pick(rng, COMPOSITE_WORDS).format(a=_named(bare, rng), b=article(scene.material))
    subject = _named(bare, rng)
    return _relation(scene, subject, rng) if scene.kind == "relation" else subject


def caption(scene, rng=None):
    """A sentence for the scene: the canonical one, or with a generator a free paraphrase."""
    bare = _noun(scene.things[0], rng, many=scene.kind == "count")
    subject = _subject(scene, bare, rng)
    if scene.corner:
        subject += " " + _pick(rng, CORNER_WORDS).format(scene.corner)
    if scene.camera:
        subject = _pick(rng, CAMERA_WORDS[scene.camera]).format(subject)
    if scene.style:
        alone = scene.kind == "one" and not scene.corner
        words = _pick(rng, [words for words in STYLE_WORDS[scene.style] if alone or "{bare}" not in words])
        subject = words.format(subject, bare=bare)
    elif rng is not None and scene.kind != "panels" and rng.random() < 0.1:
        subject = rng.choice(OPENINGS) + subject
    light = " " + _pick(rng, LIGHT_WORDS[scene.light]) if scene.light else ""
    return subject + _background_words(scene, rng) + light
