"""The sampler: DALL·E's transformer over [text | image] tokens (Ramesh et al. 2021), small.

Names and shapes are those of the checkpoint layout, but for the image embedding: in training it is the sum of a free table
and one table per FSQ channel, and the image head is tied to it. `exported` writes the tables out.
"""
import functools
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from .dvae import Quantizer, load_codes
from .grammar import sample_held, sample_train
from .stream import batches, still
from .text import SamplerText
from .training import DEVICE, MIXED, Optimizers, Run

RMS_EPSILON = 1.1920929e-07
ACTIVATIONS = {
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu_squared": lambda x: F.relu(x).square()}  # So et al. 2021 (Primer): as good, and cheaper where there is no fast exponential


def attention_mask(kind, text, grid, kernel):
    """Which position may see which: bool [text + image, text + image]."""
    height, width = grid
    image = torch.arange(height * width)
    rows, columns, back = image // width, image % width, image[:, None] - image[None]
    seen = back >= 0
    if kind == "row":
        seen &= back <= width
    elif kind == "column":
        seen &= back % width == 0
    elif kind == "conv":
        seen &= (rows[:, None] - rows[None]).abs() <= kernel // 2
        seen &= (columns[:, None] - columns[None]).abs() <= kernel // 2
    mask = torch.ones(text + len(image), text + len(image), dtype=torch.bool).tril()
    mask[text:, text:] = seen
    return mask


class Attention(nn.Module):
    def __init__(self, config, kind):
        super().__init__()
        width = config["width"]
        self.heads, self.scale = config["heads"], config["qk_scale"] * (width // config["heads"]) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        mask = attention_mask(kind, config["text_length"], config["grid"], config["conv_kernel"])
        self.register_buffer("bias", torch.zeros(mask.shape).masked_fill(~mask, -1e4), persistent=False)
        self.blocks = None

    def forward(self, x, cache=None):
        """With a cache, `x` goes on after the `cache.length` positions that it holds."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k = (F.rms_norm(part.float(), part.shape[-1:], eps=RMS_EPSILON).to(v.dtype) for part in (q, k))
        if cache is not None:
            k, v = cache.append(self, k, v)
        end = k.shape[2]
        if x.is_cuda and cache is None:
            return self.out(self._fused(q, k, v).transpose(1, 2).reshape(batch, length, width))
        bias = self.bias[end - length : end, :end]
        if cache is not None:  # reads the keys where they are
            context = F.scaled_dot_product_attention(q, k, v, bias.to(v.dtype), scale=self.scale)
            return self.out(context.transpose(1, 2).reshape(batch, length, width))
        scores = (q * self.scale) @ k.mT + bias
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))

    def _fused(self, q, k, v):
        """The same without the table of scores: in a compiled model the blocks that the mask leaves out are skipped."""
        if self.blocks is not None and torch.compiler.is_compiling():
            return flex_attention(q.contiguous(), k.contiguous(), v.contiguous(), block_mask=self.blocks, scale=self.scale)
        return F.scaled_dot_product_attention(q, k, v, self.bias.to(v.dtype), scale=self.scale)

    def skip_blocks(self):
        """Prepare `_fused` for a compiled model."""
        seen = self.bias == 0
        self.blocks = create_block_mask(lambda b, h, q, k: seen[q, k], None, None, *seen.shape, device=seen.device)


class Cache:
    """The keys and values of every layer, in memory that is taken once."""

    def __init__(self, positions):
        self.positions, self.length, self.layers = positions, 0, {}

    def append(self, layer, *parts):
        """What the layer has with the new keys and values, each [batch, heads, positions, head width]."""
        if layer not in self.layers:
            self.layers[layer] = [part.new_empty(*part.shape[:2], self.positions, part.shape[3]) for part in parts]
        end = self.length + parts[0].shape[2]
        for kept, part in zip(self.layers[layer], parts):
            kept[:, :, self.length : end] = part
        return (kept[:, :, :end] for kept in self.layers[layer])


class Mlp(nn.Module):
    def __init__(self, width, hidden, activation):
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.activate = ACTIVATIONS[activation]

    def forward(self, x):
        return self.down(self.activate(self.up(x)))


class Layer(nn.Module):
    def __init__(self, config, kind):
        super().__init__()
        width, epsilon = config["width"], config["norm_epsilon"]
        self.attention_norm = nn.LayerNorm(width, epsilon)
        self.attention = Attention(config, kind)
        self.mlp_norm = nn.LayerNorm(width, epsilon)
        self.mlp = Mlp(width, config["mlp_width"], config["activation"])

    def forward(self, x, cache=None):
        x = x + self.attention(self.attention_norm(x), cache)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    def __init__(self, config, vocabulary, levels):
        super().__init__()
        width, self.text, self.grid = config["width"], config["text_length"], config["grid"]
        digits = Quantizer(levels).digits().cpu()
        offsets = torch.tensor([0, *np.cumsum(levels)[:-1].tolist()])
        self.register_buffer("digits", digits + offsets, persistent=False)
        self.text_embedding = nn.Embedding(vocabulary + self.text, width)
        self.text_position = nn.Embedding(self.text, width)
        self.code_embedding = nn.Embedding(len(digits), width)
        self.digit_embedding = nn.Embedding(sum(levels), width)
        self.row_position = nn.Embedding(self.grid[0], width)
        self.column_position = nn.Embedding(self.grid[1], width)
        self.layers = nn.ModuleList(Layer(config, kind) for kind in config["masks"])
        self.norm = nn.LayerNorm(width, config["norm_epsilon"])
        self.image_bias = nn.Parameter(torch.zeros(len(digits)))
        self.text_head = nn.Linear(width, vocabulary + self.text, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / ((2 * len(self.layers)) ** 0.5 if last else 1))

    def codes(self):
        """The image embedding, which is also the image head: [codebook, width]."""
        return self.code_embedding.weight + self.digit_embedding.weight[self.digits].sum(1)

    def places(self):
        return (self.row_position.weight[:, None] + self.column_position.weight[None]).flatten(0, 1)

    def forward(self, text, image):
        """Teacher forcing: logits of text tokens 1 … and of every image token. What follows the last is not asked."""
        codes = self.codes()
        x = torch.cat([self.text_embedding(text) + self.text_position.weight, codes[image] + self.places()], 1)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.text_head(x[:, : self.text - 1]), x[:, self.text - 1 : -1] @ codes.T + self.image_bias

    @torch.no_grad()
    def sample(self, text, temperature=1.0, top_k=128, guidance=1.0, instead=None):
        """Image tokens for rows of text tokens; temperature 0 takes the likeliest token. Guidance goes away from no caption, or from the rows `instead`."""
        count = len(text)
        if guidance != 1:
            pads = torch.arange(self.text_embedding.num_embeddings - self.text, self.text_embedding.num_embeddings, device=text.device)
            text = torch.cat([text, pads.expand(count, -1) if instead is None else instead])
        codes, places, tokens = self.codes(), self.places(), []
        cache = Cache(self.text + len(places))
        x = self.text_embedding(text) + self.text_position.weight
        for place in places:
            for layer in self.layers:
                x = layer(x, cache)
            cache.length += x.shape[1]
            logits = (self.norm(x[:, -1]) @ codes.T + self.image_bias).float()
            if guidance != 1:
                named, unnamed = logits.chunk(2)
                logits = unnamed + guidance * (named - unnamed)
            if temperature == 0:
                token = logits.argmax(-1)
            else:
                best, which = (logits / temperature).topk(top_k)
                token = which.gather(1, torch.multinomial(best.softmax(-1), 1))[:, 0]
            tokens.append(token)
            x = (codes[token] + place)[:, None]
            x = torch.cat([x, x]) if guidance != 1 else x
        return torch.stack(tokens, 1)

    def exported(self):
        """The tensors of transformer.safetensors."""
        tensors = self.state_dict()
        codes = self.codes().detach()
        for name in ("code_embedding.weight", "digit_embedding.weight"):
            del tensors[name]
        bias = tensors.pop("image_bias")
        return {**tensors, "image_embedding.weight": codes, "image_head.weight": codes.clone(), "image_head.bias": bias}


def build(config, work):
    text = SamplerText(work, config["transformer"]["text_length"])
    return Transformer(config["transformer"], text.vocabulary, config["dvae"]["quantizer"]["levels"]).to(DEVICE), text


def load(config, work):
    model, text = build(config, work)
    model.load_state_dict(torch.load(os.path.join(work, "transformer.pt"), map_location=DEVICE)["model"])
    return model.eval().requires_grad_(False), text


def losses(model, text, image, pads):
    """Cross-entropy of the text (pads do not count) and of the image, in nats a token."""
    text_logits, image_logits = model(text, image)
    following = text[:, 1:]
    following = following.masked_fill((following >= pads) & (text[:, :-1] >= pads), -100)
    return F.cross_entropy(text_logits.flatten(0, 1).float(), following.flatten()), F.cross_entropy(
        image_logits.flatten(0, 1).float(), image.flatten())


def _losses_mixed(model, text, image, pads):
    return losses(functools.partial(_mixed, model), text, image, pads)


def _mixed(model, text, image):
    """With 16-bit products where these are faster."""
    with torch.autocast(DEVICE, torch.bfloat16, enabled=MIXED):
        return model(text, image)


def _checks(config, text, dvae):
    """Text and image tokens of scenes that may be trained on, and of held-out ones."""
    checks = {}
    for name, seed, kind in (("check", 7, sample_train), ("held", 6, sample_held)):
        _, captions, images = still(config, config["check"]["scenes"], seed, kind)
        checks[name] = torch.from_numpy(text(captions)).to(DEVICE), dvae.encode(images)
    return checks


def _report(run, model, checks, pads, mean, batch):
    with torch.no_grad():
        results = {name: _losses_mixed(model, *pair, pads) for name, pair in checks.items()}
        shuffled = _losses_mixed(model, checks["check"][0].roll(1, 0), checks["check"][1], pads)[1]
    run.report(
        train=mean, check=results["check"][1].item(), held=results["held"][1].item(), shuffled=shuffled.item(),
        text=results["check"][0].item(), sequences=run.step * batch, a_second=run.rate(batch // run.replicas.count))


def _compiled_losses(model, text, batch):
    """`_losses_mixed` of the model, compiled: on a CPU as one function, if there is a compiler for C++."""
    eager = functools.partial(_losses_mixed, model)
    if DEVICE == "cuda":
        return functools.partial(_losses_mixed, _compiled(model, batch))
    forward = torch.compile(eager)
    rows = torch.zeros(batch, model.text, dtype=torch.long), torch.zeros(batch, len(model.places()), dtype=torch.long)
    try:
        sum(forward(*rows, text.vocabulary)).backward()
        model.zero_grad()
        return forward
    except Exception as error:  # whatever the compiler, or its lack, throws
        print(f"the losses are not compiled: {repr(error)[:400]}", flush=True)
        return eager


def _compiled(model, batch):
    """The compiled model, with attention that skips blocks, if that can be had and gives the same logits."""
    rows = [torch.randint(0, size, (batch, length), device=DEVICE) for size, length in (
        (model.text_embedding.num_embeddings, model.text), (len(model.digits), len(model.places())))]
    with torch.no_grad():
        expected = _mixed(model, *rows)[1][:2].float()
    for layer in model.layers:
        layer.attention.skip_blocks()
    forward = torch.compile(model)
    try:
        logits = _mixed(forward, *rows)
        sum(each.float().mean() for each in logits).backward()
        apart = ((logits[1][:2].float() - expected).norm() / expected.norm()).item()
        problem = "" if apart < 0.05 else f"logits are {apart:.3f} apart"
    except Exception as error:  # whatever the compiler cannot do
        problem = repr(error)
    model.zero_grad()
    if problem:
        print(f"attention skips no blocks: {problem[:400]}", flush=True)
        for layer in model.layers:
            layer.attention.blocks = None
        torch.compiler.reset()
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled either runs as it is
        forward = torch.compile(model)
    return forward


def train(config, work, replicas):
    """Text loss weight 1/8 of the image's, as the paper; some captions are dropped, for guidance."""
    settings = config["transformer"]["train"]
    (model, text), dvae = build(config, work), load_codes(config, work)
    optimizers = Optimizers(model.named_parameters(), "layers.", "qkv", settings, (0.9, 0.95), replicas)
    run = Run(os.path.join(work, "transformer.pt"), settings, {"model": model}, optimizers.kept(), replicas, save_every=180)
    torch.manual_seed(1000 * run.step + replicas.rank)
    nothing, batch = torch.arange(text.vocabulary, text.vocabulary + text.length, device=DEVICE), settings["batch"]
    stream = batches(config, batch, f"transformer {replicas.rank} {run.step}", practice=settings["practice"])
    checks, mean = _checks(config, text, dvae), None
    forward = _compiled_losses(model, text, batch) if settings["compile"] else functools.partial(_losses_mixed, model)
    while run.running():
        run.rates(settings["warmup"], settings["decay"])
        captions, images = next(stream)
        tokens = torch.from_numpy(text(captions)).to(DEVICE)
        tokens = torch.where(torch.rand(batch, 1, device=DEVICE) < settings["caption_dropout"], nothing, tokens)
        codes = dvae.encode(images)
        text_loss, image_loss = forward(tokens, codes, text.vocabulary)
        optimizers.step(image_loss + text_loss / 8)
        run.step += 1
        if run.step % 8 == 0 or mean is None:
            mean = image_loss.item() if mean is None else 0.9 * mean + 0.1 * image_loss.item()
        if run.due():
            _report(run, model, checks, text.vocabulary, mean, batch * replicas.count)
    run.save()
