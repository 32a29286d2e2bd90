"""The ranker: a small CLIP (Radford et al. 2021) with the names and shapes of OpenAI's `model.py`.

Beside the other captions of a batch, each picture is compared with one whose caption differs in a single attribute, and each
caption with a damaged copy of its picture. Part of the pictures are seen through the autoencoder, and part are the sampler's
own, with its mistakes: what it drew for a caption must suit that caption better than what it drew for one that differs in a
single attribute.
"""
import os
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

from .alternatives import alternatives
from .captions import caption
from .drawn import load_drawn
from .dvae import load_codes
from .stream import batches, still
from .text import RankerText
from .training import DEVICE, MIXED, Muon, Run


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

    def encode_image(self, x):
        return F.normalize(self.visual(x).float(), dim=-1)

    def encode_text(self, tokens):
        """The end token has the highest id, so its place is the arg max."""
        x = self.transformer(self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]])
        ends = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
        return F.normalize((self.ln_final(ends) @ self.text_projection).float(), dim=-1)


def shrink(images, size):
    """uint8 pictures [n, h, w, 3] → Pillow's bicubic resize → uint8 [n, size, size, 3]."""
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), Image.BICUBIC)) for image in images])


def preprocess(images, size):
    """uint8 pictures [n, h, w, 3] → −1 … 1 (mean and std 0.5) at the ranker's size."""
    return (torch.from_numpy(shrink(images, size)).to(DEVICE).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def other_scene(scene, rng):
    """The scene with one attribute changed."""
    choices = alternatives(scene)
    return rng.choice(choices[rng.choice(tuple(choices))])


def build(config, work):
    text = RankerText(work, config["clip"]["context_length"])
    return Clip(config["clip"], text.vocabulary).to(DEVICE), text


def load(config, work):
    model, text = build(config, work)
    model.load_state_dict(torch.load(os.path.join(work, "clip.pt"), map_location=DEVICE)["model"])
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


class Pairs:
    """Batches of pictures, as the ranker sees them, and captions: drawn scenes, some seen through the autoencoder, and the sampler's own pictures."""

    def __init__(self, config, work, seed):
        self.settings, self.grid, self.size = config["clip"]["train"], config["transformer"]["grid"], config["clip"]["image_size"]
        self.dvae, self.rng = load_codes(config, work), random.Random(seed)
        self.fresh = batches(config, self.settings["batch"] - self.settings["drawn"], seed, _with_others)
        self.drawn = load_drawn(work)
        self.painted = [np.concatenate([self._paint(part) for part in side.to(DEVICE).split(32)]) for side in self.drawn.tokens]

    def _paint(self, tokens):
        return shrink(self.dvae.decode(tokens, self.grid), self.size)

    def __next__(self):
        """(pictures, captions, captions that differ in one attribute, pictures that suit the first captions less)"""
        settings, coded = self.settings, self.settings["coded"]
        captions, others, images = next(self.fresh)
        codes = self.dvae.encode(images[:coded])
        chosen = [self.rng.randrange(len(self.drawn)) for _ in range(settings["drawn"])]
        seen = self._paint(torch.cat([codes, _damage(codes[: settings["damaged"]], self.dvae.quantizer.size)]))
        mine, theirs = (side[chosen] for side in self.painted)
        pairs = [self.drawn.captions(i, self.rng) for i in chosen]
        captions, others = captions + [pair[0] for pair in pairs], others + [pair[1] for pair in pairs]
        images = [seen[:coded], shrink(images[coded:], self.size), mine]
        return np.concatenate(images), captions, others, np.concatenate([theirs, seen[coded:]])


def _with_others(scenes, captions, images, rng):
    return captions, [caption(other_scene(scene, rng), rng) for scene in scenes], images


def train(config, work, replicas):
    settings, size = config["clip"]["train"], config["clip"]["image_size"]
    model, text = build(config, work)
    matrices = [
        (parameter, 3 if "in_proj" in name else 1) for name, parameter in model.named_parameters() if parameter.ndim == 2 and "resblocks" in name]
    chosen = {id(parameter) for parameter, _ in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    muon = Muon(matrices, settings["muon_rate"], replicas)
    adam = torch.optim.AdamW(others, settings["rate"], betas=(0.9, 0.98), weight_decay=0.0)
    run = Run(os.path.join(work, "clip.pt"), settings, {"model": model}, {"muon": muon, "adam": adam}, replicas)
    pairs, batch = Pairs(config, work, f"clip {replicas.rank} {run.step}"), settings["batch"]
    right, check = torch.arange(batch, device=DEVICE), Check(config)
    while run.running():
        run.rates(settings["warmup"], settings["decay"])
        images, captions, other_captions, worse = next(pairs)
        captions = captions + other_captions
        with torch.autocast(DEVICE, torch.bfloat16, enabled=MIXED):
            seen = model.encode_image(preprocess(np.concatenate([images, worse]), size))
            said = model.encode_text(torch.from_numpy(text(captions)).to(DEVICE))
        logits = seen @ said.T * model.logit_scale.clamp(max=4.6).exp()
        same = torch.tensor([[captions[i] == captions[j] and i != j for j in range(2 * batch)] for i in range(batch)], device=DEVICE)
        logits = torch.cat([logits[:batch].masked_fill(same, -1e4), logits[batch:]])
        loss = F.cross_entropy(logits[:batch], right) + 0.5 * F.cross_entropy(logits[:, :batch].T, right)
        loss.backward()
        replicas.average_gradients(model.parameters())
        nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in (muon, adam):
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        run.step += 1
        if run.due():
            match, one_attribute = check(model, text, size)
            run.report(loss=loss.item(), match64=match, one_attribute=one_attribute, scale=model.logit_scale.exp().item(), pairs=run.rate(batch))
    run.save()


class Check:
    """New pictures: how often the right one of 64 captions is found, and the right one of two that differ in one attribute."""

    def __init__(self, config):
        scenes, self.captions, self.images = still(config, 4 * config["check"]["scenes"], seed=9)
        rng = random.Random(10)
        self.others = [caption(other_scene(scene, rng)) for scene in scenes]

    def __call__(self, model, text, size):
        matrix = scores(model, text, self.images, self.captions, size).cpu()
        wrong = scores(model, text, self.images, self.others, size).cpu().diagonal()
        groups = [matrix[i : i + 64, i : i + 64] for i in range(0, len(matrix), 64)]
        match = torch.cat([group.argmax(1) == torch.arange(64) for group in groups]).float().mean().item()
        return match, (matrix.diagonal() > wrong).float().mean().item()
