"""The ranker: a small CLIP (Radford et al. 2021) with the names and shapes of OpenAI's `model.py`.

Beside the other captions of a batch, each picture is compared with captions that differ in a single attribute and with the bare
names of all objects, and each caption with a damaged copy of its picture; and the picture's attributes are read from its embedding. Part of the pictures are seen through the autoencoder,
part are recoloured or redrawn (`augment.py`), and part are the sampler's own, with its mistakes: what it drew for a caption must suit that caption better than what it drew for
one that differs in a single attribute, or between the two.
"""
import os
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

from .alternatives import some_alternatives
from .augment import moved, recoloured, redrawn
from .backgrounds import PLACES, PLAIN
from .captions import article, caption
from .drawn import load_drawn
from .dvae import load_codes
from .grammar import CAMERAS, CORNERS, COUNTS, LIGHTS, MATERIALS, SIZES, STYLES, sample_held, sample_train
from .sprites import COLORS, OBJECTS, TEXTURES
from .stream import batches, still
from .text import RankerText
from .training import DEVICE, MIXED, Optimizers, Run


class Attention(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        batch, length, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT * (width // self.heads) ** -0.5
        if self.causal:
            scores = scores + torch.full((length, length), -1e4, device=x.device).triu(1)
        return self.out_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))


class ResidualBlock(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.attn = Attention(width, heads, causal)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        hidden = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))


class Blocks(nn.Module):
    def __init__(self, width, layers, heads, causal):
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(width, heads, causal) for _ in range(layers))

    def forward(self, x):
        for block in self.resblocks:
            x = block(x)
        return x


class Layout(nn.Module):
    """What lies where, beside what the transformer sees: a linear map of the mean colours of equal squares, of length `scale`. See `layout.py`."""

    def __init__(self, width, squares, scale):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(width, 3, squares, squares)), nn.Parameter(torch.zeros(width))
        self.register_buffer("scale", torch.tensor(float(scale)))

    def map(self, colors):
        """Mean colours of the squares, −1 … 1, [n, 3, squares, squares] → [n, width]."""
        return self.scale * F.normalize(F.conv2d(colors, self.weight, self.bias).flatten(1), dim=-1)

    def forward(self, x):
        return self.map(F.avg_pool2d(x, x.shape[-1] // self.weight.shape[-1]))


class Vision(nn.Module):
    def __init__(self, image_size, patch, width, layers, heads, embed):
        super().__init__()
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((image_size // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Blocks(width, layers, heads, causal=False)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed))
        self.layout = None

    def forward(self, x):
        x = self.conv1(x).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Clip(nn.Module):
    def __init__(self, config, vocabulary):
        super().__init__()
        width, embed = config["text_width"], config["embed"]
        self.visual = Vision(
            config["image_size"], config["patch"], config["vision_width"], config["vision_layers"], config["vision_heads"], embed)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(config["context_length"], width) * 0.01)
        self.transformer = Blocks(width, config["text_layers"], config["text_heads"], causal=True)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def add_layout(self, settings):
        """Embed what lies where, too, as `[layout]` says; the captions' part of it is zero."""
        layout = Layout(*(settings[name] for name in ("width", "squares", "scale")))
        self.visual.layout = layout.to(self.text_projection.device)
        self.text_projection = nn.Parameter(F.pad(self.text_projection.detach(), (0, settings["width"])))

    def encode_image(self, x):
        seen = F.normalize(self.visual(x).float(), dim=-1)
        return seen if self.visual.layout is None else F.normalize(torch.cat([seen, self.visual.layout(x)], 1), dim=-1)

    def told(self, tokens):
        """Of any length. The end token has the highest id, so its place is the arg max."""
        x = self.transformer(self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]])
        ends = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
        return (self.ln_final(ends) @ self.text_projection).float()

    def encode_text(self, tokens):
        return F.normalize(self.told(tokens), dim=-1)


def shrink(images, size):
    """uint8 pictures [n, h, w, 3] → Pillow's bicubic resize → uint8 [n, size, size, 3]."""
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), Image.BICUBIC)) for image in images])


def preprocess(images, size):
    """uint8 pictures [n, h, w, 3] → −1 … 1 (mean and std 0.5) at the ranker's size."""
    return (torch.from_numpy(shrink(images, size)).to(DEVICE).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def build(config, work):
    text = RankerText(work, config["clip"]["context_length"])
    return Clip(config["clip"], text.vocabulary).to(DEVICE), text


def trained(config, work):
    """The file of the trained ranker: of what `layout` made of it, where the configuration has that."""
    return os.path.join(work, "layout.pt" if "layout" in config else "clip.pt")


def load(config, work):
    model, text = build(config, work)
    if "layout" in config:
        model.add_layout(config["layout"])
    model.load_state_dict(torch.load(trained(config, work), map_location=DEVICE)["model"])
    return model.eval().requires_grad_(False), text


def scores(model, text, images, captions, size):
    """Cosine of every picture with every caption."""
    with torch.no_grad():
        return model.encode_image(preprocess(images, size)) @ model.encode_text(torch.from_numpy(text(captions)).to(DEVICE)).T


def _damage(codes, codebook):
    """Some of a picture's tokens replaced by those of its neighbour in the batch, or by any."""
    share = torch.rand(len(codes), 1, device=codes.device) * 0.4 + 0.1
    foreign = torch.where(torch.rand(len(codes), 1, device=codes.device) < 0.5, codes.roll(1, 0), torch.randint_like(codes, codebook))
    return torch.where(torch.rand(codes.shape, device=codes.device) < share, foreign, codes)


class Painted:
    """Scenes seen through the autoencoder, whole and with damaged tokens: a store that grows, since painting takes longer than looking."""

    def __init__(self, config, work, seed):
        self.settings, self.grid, self.size = config["clip"]["train"], config["transformer"]["grid"], config["clip"]["image_size"]
        self.dvae, self.rng = load_codes(config, work), random.Random(f"painted {seed}")
        self.fresh = batches(config, self.settings["fresh"], f"painted {seed}", _with_scenes)
        self.scenes, self.whole, self.damaged = [], [], []
        while len(self.scenes) < self.settings["store"]:
            self.grow()

    def paint(self, tokens):
        """Tokens [n, cells] → pictures uint8 [n, size, size, 3], as the ranker sees them."""
        return np.concatenate([shrink(self.dvae.decode(part, self.grid), self.size) for part in tokens.to(DEVICE).split(32)])

    def grow(self):
        scenes, images = next(self.fresh)
        codes = self.dvae.encode(images)
        seen = self.paint(torch.cat([codes, _damage(codes, self.dvae.quantizer.size)]))
        self.scenes += scenes
        self.whole += list(seen[: len(scenes)])
        self.damaged += list(seen[len(scenes) :])

    def take(self, count, damaged):
        """Scenes, their pictures, and damaged pictures of the first ones."""
        chosen = [self.rng.randrange(len(self.scenes)) for _ in range(count)]
        return [self.scenes[i] for i in chosen], np.stack([self.whole[i] for i in chosen]), np.stack([self.damaged[i] for i in chosen[:damaged]])


class Pairs:
    """Batches of pictures, as the ranker sees them, and scenes: rendered ones, some seen through the autoencoder, and the sampler's own pictures."""

    def __init__(self, config, work, seed):
        self.settings, self.size, self.rng = config["clip"]["train"], config["clip"]["image_size"], random.Random(seed)
        self.painted = Painted(config, work, seed)
        rendered = self.settings["batch"] - self.settings["drawn"] - self.settings["coded"]
        self.rendered, self.drawn = batches(config, rendered, seed, _with_scenes), load_drawn(work)
        self.drawings = [self.painted.paint(side) for side in self.drawn.tokens]

    def __next__(self):
        """(pictures; pictures that suit the first scenes less; scenes; for each some that differ in one attribute)"""
        settings, count = self.settings, self.settings["alternatives"]
        self.painted.grow()
        chosen = [self.rng.randrange(len(self.drawn)) for _ in range(settings["drawn"])]
        right, *wrong = self.drawings
        mine = moved(right[chosen], self.rng)
        theirs = moved(np.stack([self.rng.choice(wrong)[i] for i in chosen]), self.rng)
        coded, seen, damaged = self.painted.take(settings["coded"], settings["damaged"])
        rendered, images = next(self.rendered)
        others = [[self.drawn.pairs[i][1], *some_alternatives(self.drawn.pairs[i][0], self.rng, count - 1)] for i in chosen]
        others += [some_alternatives(scene, self.rng, count) for scene in coded + rendered]
        scenes = [self.drawn.pairs[i][0] for i in chosen] + coded + rendered
        images = np.concatenate([mine, moved(seen, self.rng), shrink(images, self.size)])
        return images, np.concatenate([theirs, moved(damaged, self.rng)]), scenes, others


def _with_scenes(scenes, captions, images, rng):
    return scenes, images


def _named(scenes):
    """For each scene the number of an object that is in it, and which objects are not to be told from it: the others in it. Composites name none."""
    numbers, hidden = torch.full((len(scenes),), -100), torch.zeros(len(scenes), len(OBJECTS), dtype=torch.bool)
    for i, scene in enumerate(scenes):
        if scene.kind != "composite":
            places = [OBJECTS.index(thing.name) for thing in scene.things]
            numbers[i] = places[0]
            hidden[i, places[1:]] = True
    return numbers, hidden


# What there is of each attribute, and how much it counts: whatever is told apart by its shape takes longest to learn.
ATTRIBUTES = {
    "object": (OBJECTS, 1.0), "material": (("", *MATERIALS), 0.5), "color": (("", *COLORS), 0.3), "texture": (("", *TEXTURES), 0.3),
    "style": (STYLES, 0.3), "panel": (STYLES, 0.2), "background": (("", *("plain:" + color for color in PLAIN), *PLACES), 0.2),
    "count": ((0, *COUNTS), 0.2), "corner": (("", *CORNERS), 0.1), "size": (SIZES, 0.2), "camera": (("", *CAMERAS), 0.2), "light": (("", *LIGHTS), 0.1)}
SHAPED = ("object", "material", "texture", "style", "panel")  # what can be told whatever the colours
OUTLINED = ("object", "material")  # and whatever the surface


class Attributes(nn.Module):
    """What a scene is made of, read from a picture's embedding: not shipped, but what the embedding must tell is learnt sooner with it."""

    def __init__(self, embed):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(embed, len(options)) for name, (options, _) in ATTRIBUTES.items()})

    def forward(self, seen, scenes, names=tuple(ATTRIBUTES)):
        """The cross-entropies of the attributes with these names; of two things each counts half."""
        loss = 0.0
        for name, (options, weight) in ((name, ATTRIBUTES[name]) for name in names):
            target = torch.zeros(len(scenes), len(options))
            for i, scene in enumerate(scenes):
                own = [scene] if hasattr(scene, name) else scene.things
                for part in own:
                    target[i, options.index(part.name if name == "object" else getattr(part, name))] += 1 / len(own)
            loss = loss + weight * F.cross_entropy(self.heads[name](seen), target.to(seen.device))
        return loss


class Losses:
    """Losses of a batch of `Pairs`: contrastive ones, and `Attributes`.

    Each picture must find its caption among all captions of the batch and those that differ in one attribute; each caption its
    picture among all pictures and those that suit it less; and each picture of objects the name of one among all their names, some
    with other colours or drawn in another way, too.
    """

    def __init__(self, model, text, settings, size):
        self.model, self.text, self.settings, self.size = model, text, settings, size
        self.names, self.attributes = [article(name) for name in OBJECTS], Attributes(model.text_projection.shape[1]).to(DEVICE)
        self.embed = torch.compile(self._embed) if settings["compile"] else self._embed

    def _embed(self, pictures, tokens):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=MIXED):
            return self.model.visual(pictures).float(), self.model.encode_text(tokens)

    def __call__(self, images, worse, scenes, others, rng):
        batch, every = len(scenes), scenes + [other for own in others for other in own]
        captions = [caption(scene, rng) for scene in every]
        tokens = torch.from_numpy(self.text(captions + self.names)).to(DEVICE)
        by_shape, by_outline = (rng.sample(range(batch), self.settings[name]) for name in ("recoloured", "redrawn"))
        some = by_shape + by_outline
        pictures = np.concatenate([images, worse, recoloured(images[by_shape], rng), redrawn(images[by_outline], rng)])
        seen, said = self.embed(preprocess(pictures, self.size), tokens)
        told, changed = self.attributes(seen[:batch], scenes), seen[batch + len(worse) :].split([len(by_shape), len(by_outline)])
        for own, which, names in zip(changed, (by_shape, by_outline), (SHAPED, OUTLINED)):
            if which:
                told = told + self.attributes(own, [scenes[i] for i in which], names)
        logits = F.normalize(seen, dim=-1) @ said.T * self.model.logit_scale.clamp(max=4.6).exp()
        asked = [caption(scene) for scene in every]
        same = torch.tensor([[asked[i] == asked[j] and i != j for j in range(len(every))] for i in range(batch)], device=DEVICE)
        found = torch.cat([logits[:batch, : len(every)].masked_fill(same, -1e4), logits[batch : batch + len(worse), : len(every)]])
        right, (numbers, hidden) = torch.arange(batch, device=DEVICE), _named(scenes + [scenes[i] for i in some])
        named = torch.cat([logits[:batch, len(every) :], logits[batch + len(worse) :, len(every) :]]).masked_fill(hidden.to(DEVICE), -1e4)
        return F.cross_entropy(found[:batch], right) + 0.5 * F.cross_entropy(found[:, :batch].T, right) \
            + self.settings["names"] * F.cross_entropy(named, numbers.to(DEVICE)) + self.settings["attributes"] * told


def train(config, work, replicas):
    settings, size = config["clip"]["train"], config["clip"]["image_size"]
    model, text = build(config, work)
    losses = Losses(model, text, settings, size)
    named = [*model.named_parameters(), *losses.attributes.named_parameters()]
    optimizers = Optimizers(named, "resblocks", "in_proj", settings, (0.9, 0.98), replicas)
    run = Run(os.path.join(work, "clip.pt"), settings, {"model": model, "attributes": losses.attributes}, optimizers.kept(), replicas)
    seed = f"clip {replicas.rank} {run.step}"
    pairs, rng, check = Pairs(config, work, seed), random.Random(seed), Check(config)
    while run.running():
        run.rates(settings["warmup"], settings["decay"])
        loss = losses(*next(pairs), rng)
        optimizers.step(loss)
        run.step += 1
        if run.due():
            run.report(loss=loss.item(), **check(model, text, size), scale=model.logit_scale.exp().item(), pairs=run.rate(settings["batch"]))
    run.save()


class Check:
    """New pictures of combinations that may be trained on and of held-out ones: how often the right one of 64 captions is found, the right one
    of two that differ in one attribute, and a thing's name among all."""

    def __init__(self, config):
        self.sets, rng = {}, random.Random(10)
        for name, seed, kind in (("seen", 9, sample_train), ("held", 8, sample_held)):
            scenes, captions, images = still(config, 4 * config["check"]["scenes"], seed, kind)
            self.sets[name] = images, captions, [caption(some_alternatives(scene, rng, 1)[0]) for scene in scenes], _named(scenes)

    def __call__(self, model, text, size):
        results = {}
        for name, (images, captions, others, (numbers, hidden)) in self.sets.items():
            matrix = scores(model, text, images, captions + [article(each) for each in OBJECTS], size).cpu()
            matrix, names = matrix[:, : len(images)], matrix[:, len(images) :].masked_fill(hidden, -2)
            wrong = torch.cat([scores(model, text, images[i : i + 64], others[i : i + 64], size).diagonal() for i in range(0, len(images), 64)]).cpu()
            groups = [matrix[i : i + 64, i : i + 64] for i in range(0, len(matrix), 64)]
            match = torch.cat([group.argmax(1) == torch.arange(len(group)) for group in groups]).float().mean().item()
            asked = numbers >= 0
            results |= {
                name: match, name + "_one_attribute": (matrix.diagonal() > wrong).float().mean().item(),
                name + "_name": (names.argmax(1) == numbers)[asked].float().mean().item()}
        return results
