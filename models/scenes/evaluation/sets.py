"""What is asked of the model: scenes drawn from the recipe's grammar by fixed seeds, and their captions."""
import random
from dataclasses import dataclass

from recipe.captions import RELATION_WORDS, caption
from recipe.grammar import Scene, held_out, sample, sample_held, sample_train

CANDIDATE_SEEDS = 1000  # seeds of one case's candidates begin at a multiple of this


@dataclass(frozen=True)
class Case:
    """One caption: `form` is canonical or free, `seed` that of its first candidate."""
    group: str
    index: int
    scene: Scene
    form: str
    caption: str
    seed: int

    @property
    def name(self):
        return f"{self.group}-{self.index:04}"


def paraphrase(scene, rng):
    """A free caption that is not the canonical one, and that says which side a relation means."""
    words = RELATION_WORDS.get(scene.relation, ("",))
    while True:
        text = caption(scene, rng)
        if text != caption(scene) and any(word in text for word in words):
            return text


def captions(group, count):
    """The first `count` cases of unseen ("held") or of seen ("seen") combinations, canonical and free in turn."""
    rng, cases = random.Random(f"evaluation {group}"), []
    kind = sample_held if group == "held" else sample_train
    for index in range(count):
        scene = kind(rng)
        form = "free" if index % 2 else "canonical"
        text = paraphrase(scene, rng) if form == "free" else caption(scene)
        cases.append(Case(group, index, scene, form, text, CANDIDATE_SEEDS * (2 * index + (group == "seen"))))
    return cases


def unseen(kinds, count, name, suits=lambda scene: True):
    """Scenes of the given kinds, in turns, with a combination that was held out."""
    rng, scenes = random.Random(f"evaluation {name}"), []
    while len(scenes) < count:
        scene = sample(rng, kinds[len(scenes) % len(kinds)])
        if held_out(scene) and suits(scene):
            scenes.append(scene)
    return scenes
