"""The judge finds every attribute in true renders, and what is wrong in others."""

import pathlib
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
from harness import needs_font

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from recipe import practice
from recipe.alternatives import alternatives, some_alternatives
from recipe.canvas import use
from recipe.captions import caption
from recipe.grammar import ASKED, KINDS, SHOWN, STYLES, Scene, Thing, held_out, sample, sample_held, sample_train, with_thing
from recipe.judge import judge
from recipe.scenes import corner, pixels, placements, render
from recipe.sprites import COLORS, TEXTURES

pytestmark = needs_font

SCENES = {
    "texture": Scene("one", (Thing("balloon", "purple", "", "striped"),), background="in the desert"),
    "light": Scene("one", (Thing("house"),), light="lit from the left", shift=(1, 0)),
    "night": Scene("one", (Thing("penguin"),), background="in the snow", light="at night"),
    "close-up": Scene("one", (Thing("strawberry"),), camera="close-up", soft=2),
    "from above": Scene("one", (Thing("car", "red"),), camera="from above", background="at the beach"),
    "in the distance": Scene("one", (Thing("boat"),), camera="in the distance", shift=(-1, 0)),
    "panels": Scene("panels", (Thing("cat"),), panel="sketch", soft=1),
    "relation": Scene("relation", (Thing("house", "blue"), Thing("apple", "red", "", "dotted")), relation="left", shift=(0, 1)),
    "composite": Scene("composite", (Thing("armchair"),), material="avocado"),
    "count": Scene("count", (Thing("frog", "green"),), count=3, background="plain:white"),
}


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_a_true_render_is_all_right_and_a_swapped_attribute_is_found(scene):
    choices = {attribute: random.Random(attribute).choice(options) for attribute, options in alternatives(scene).items()}
    results = judge(pixels([scene, *choices.values()]), scene)
    assert set(results) == set(choices)
    for place, attribute in enumerate(choices, 1):
        assert results[attribute][0], attribute
        assert not results[attribute][place], attribute


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_some_alternatives_are_of_as_few_attributes_as_hold_them(scene):
    choices = alternatives(scene)
    others = some_alternatives(scene, random.Random(1), 20)
    assert len(others) == len(set(others)) == min(20, sum(map(len, choices.values())))
    of_each = [[other for other in others if other in options] for options in choices.values()]
    assert sum(map(len, of_each)) == len(others)
    assert sum(0 < len(own) < len(options) for own, options in zip(of_each, choices.values())) <= 1


def test_training_shows_textures_oftener_than_captions_ask_for_them_and_nothing_held_out():
    textured = {}
    for name, shares in (("asked", ASKED), ("shown", SHOWN)):
        rng = random.Random(2)
        scenes = [sample_train(rng, shares) for _ in range(2000)]
        assert not any(map(held_out, scenes))
        textured[name] = sum(any(thing.texture for thing in scene.things) for scene in scenes)
    assert textured["shown"] > 1.5 * textured["asked"] > 0


@pytest.mark.parametrize(("held", "alike"), [
    (Scene("one", (Thing("fox"),), style="silhouette"), True), (Scene("one", (Thing("fox"),), style="neon sign"), False),
    (Scene("relation", (Thing("fox", "green"), Thing("cat", "red")), relation="left"), True), (Scene("composite", (Thing("armchair"),), material="avocado"), False)])
def test_a_held_out_combination_may_have_a_look_alike_in_practice(held, alike, monkeypatch):
    monkeypatch.setattr(practice, "held_out", lambda scene: [
        word for word in (scene.style, scene.material, scene.things[0].color) if word in ("silhouette", "neon sign", "green", "avocado")])
    assert practice.has_look_alike(held) == alike


def test_practice_is_of_what_captions_never_ask_for_and_of_nothing_held_out():
    rng, seen = random.Random(3), set()
    for _ in range(500):
        scene = sample_train(rng, SHOWN)
        changed = practice.practised(scene, rng)
        assert changed != scene and not held_out(changed)
        alike = {word: practice.LOOK_ALIKES.get(word, word) for word in ("", *practice.MORE, *COLORS, *TEXTURES, *STYLES)}
        things = tuple(replace(thing, color=alike[thing.color], texture=alike[thing.texture]) for thing in changed.things)
        assert not held_out(replace(changed, things=things, style=alike[changed.style], panel=alike[changed.panel]))
        text = caption(changed, rng)
        named = {changed.style, changed.panel, *(word for thing in changed.things for word in (thing.color, thing.texture))}
        assert all(word in text for word in named & practice.MORE)
        assert render(changed).tobytes() != render(scene).tobytes(), (scene, changed)
        for i, thing in enumerate(changed.things):
            assert not thing.texture or render(with_thing(changed, i, texture="")).tobytes() != render(changed).tobytes(), changed
        seen |= named
    assert practice.MORE <= seen


@pytest.mark.parametrize("kind", KINDS)
def test_random_scenes_of_every_kind_are_all_right(kind):
    rng = random.Random(kind)
    for scene in [sample(rng, kind) for _ in range(3)]:
        assert all(right.all() for right in judge(pixels([scene]), scene).values()), scene


def test_what_the_caption_leaves_open_does_not_matter_unless_asked_for():
    scene, other = Scene("one", (Thing("cat"),)), Scene("one", (Thing("cat"),), soft=3, shift=(1, 0))
    assert judge(pixels([other]), scene)["object"].all()
    exact = judge(pixels([scene, other]), scene, exact=True)
    assert exact["place"].tolist() == [True, False] and exact["ground"].tolist() == [True, False]


def test_the_lower_half_is_judged_alone():
    scene = Scene("panels", (Thing("cat"),), panel="sketch")
    above = pixels([scene])
    above[:, :64] = pixels([Scene("one", (Thing("bus"),))])[:, :64]
    assert all(right.all() for right in judge(above, scene, lower=True).values())
    assert not all(right.all() for right in judge(above, scene).values())


def test_an_attribute_of_which_the_lower_half_tells_nothing_is_not_judged():
    scene = Scene("relation", (Thing("house"), Thing("apple", "red")), relation="above")
    assert set(judge(pixels([scene]), scene, lower=True)) == {"object2", "color2", "relation"}


def test_noise_is_borne_and_gray_is_not():
    rng = random.Random(5)
    noise = np.random.default_rng(5)
    for scene in [sample_held(rng) for _ in range(4)]:
        noisy = (pixels([scene]) + noise.normal(0, 12, (1, 128, 128, 3))).clip(0, 255).astype(np.uint8)
        assert all(right.all() for right in judge(noisy, scene).values()), scene
        gray = np.full((1, 128, 128, 3), 128, np.uint8)
        assert not all(right.all() for right in judge(gray, scene).values()), scene


@pytest.mark.parametrize("cells, side", [(12, 16), (32, 8)])
def test_pictures_of_other_measures_are_judged_alike(cells, side):
    use(cells, side)
    try:
        for scene in SCENES.values():
            assert pixels([scene]).shape == (1, cells * side, cells * side, 3)
            assert all(right.all() for right in judge(pixels([scene]), scene).values()), scene
    finally:
        use(16, 8)


@pytest.mark.parametrize("cells", [12, 16])
def test_sprites_lie_on_whole_tokens(cells):
    use(cells, 8)
    try:
        for scene in SCENES.values():
            for _, _, size, *place in placements(scene):
                assert size % 8 == 0 and all(corner(each, shift, size) % 8 == 0 for each, shift in zip(place, scene.shift))
    finally:
        use(16, 8)
