"""The discrete autoencoder: a picture as a grid of FSQ codes (Mentzer et al. 2023), and a decoder that paints the codes.

The encoder sees one patch at a time, so that equal patches have equal codes wherever they are, which is what the transformer
can learn; the decoder sees all the codes around. The codes are learnt first, on parts of pictures at half size and with a
small decoder; then they are frozen and the decoder that is shipped learns to paint them at full size. Names and shapes are
those of the checkpoint layout.
"""
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from .stream import batches, detailed_crops, still
from .training import DEVICE, Run


class PositionNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of [n, c, h, w]."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, width, kernel, norm="picture"):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = PositionNorm(width) if norm == "position" else nn.GroupNorm(1, width)
        self.up = nn.Conv2d(width, 3 * width, 1)
        self.down = nn.Conv2d(3 * width, width, 1)
        self.scale = nn.Parameter(torch.full((1, width, 1, 1), 0.2))

    def forward(self, x):
        hidden = F.gelu(self.up(self.norm(self.depthwise(x))), approximate="tanh")
        return x + self.scale * self.down(hidden)


class Quantizer:
    """Finite scalar quantisation: every channel is rounded to one of a few levels."""

    def __init__(self, levels):
        self.levels = torch.tensor(levels, device=DEVICE)
        self.basis = torch.cumprod(torch.tensor([1, *levels[:-1]]), 0).to(DEVICE)
        self.size = int(np.prod(levels))

    def __call__(self, z):
        """[…, D] → the rounded values, through which gradients pass unchanged, and the codes."""
        half = (self.levels - 1) * 1.001 / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(z + torch.atanh(offset / half)) * half - offset
        rounded = bounded.round()
        middle = self.levels // 2
        codes = ((rounded + middle).long() * self.basis).sum(-1)
        return (bounded + (rounded - bounded).detach()) / middle, codes

    def digits(self):
        return torch.arange(self.size, device=DEVICE)[:, None] // self.basis % self.levels

    def codebook(self):
        middle = self.levels // 2
        return (self.digits() - middle) / middle


class Encoder(nn.Module):
    def __init__(self, patch, width, blocks, kernel, channels, input_kernel=3, norm="picture"):
        super().__init__()
        self.stem = nn.Conv2d(3, width, patch, patch)
        self.input = nn.Conv2d(width, width, input_kernel, padding=input_kernel // 2)
        self.blocks = nn.ModuleList(Block(width, kernel, norm) for _ in range(blocks))
        self.output = nn.Conv2d(width, channels, 1)

    def forward(self, x):
        x = self.input(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.output(x).float().permute(0, 2, 3, 1)


class Stage(nn.Module):
    def __init__(self, width, blocks, kernel, following):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, kernel) for _ in range(blocks))
        if following:
            self.upsample = nn.Conv2d(width, 4 * following, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return F.pixel_shuffle(self.upsample(x), 2) if hasattr(self, "upsample") else x


class Decoder(nn.Module):
    def __init__(self, stages, kernel, output_shuffle, codebook):
        super().__init__()
        self.shuffle = output_shuffle
        self.register_buffer("codebook", codebook)
        widths = [stage["width"] for stage in stages]
        self.input = nn.Conv2d(codebook.shape[1], widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            Stage(stage["width"], stage["blocks"], kernel, following) for stage, following in zip(stages, [*widths[1:], None]))
        self.output = nn.Conv2d(widths[-1], 3 * output_shuffle**2, 3, padding=1)

    def paint(self, values):
        """Quantised values [n, h, w, D] → pictures in −1 … 1 (not clamped)."""
        x = self.input(values.permute(0, 3, 1, 2))
        for stage in self.stages:
            x = stage(x)
        return F.pixel_shuffle(self.output(x), self.shuffle)

    def forward(self, codes):
        return self.paint(self.codebook[codes])


class Dvae(nn.Module):
    """`decoder` is a section of the configuration: the shipped decoder or the small one that the codes are learnt with."""

    def __init__(self, config, decoder="decoder"):
        super().__init__()
        levels = config["quantizer"]["levels"]
        self.quantizer = Quantizer(levels)
        self.encoder = Encoder(**config["encoder"], channels=len(levels))
        self.decoder = Decoder(**config[decoder], codebook=self.quantizer.codebook())

    @torch.no_grad()
    def encode(self, images):
        """uint8 pictures [n, side, side, 3] → codes [n, h · w]."""
        return self.quantizer(self.encoder(to_unit(images)))[1].flatten(1)

    @torch.no_grad()
    def decode(self, codes, grid):
        """Codes [n, h · w] → uint8 pictures [n, side, side, 3]."""
        painted = self.decoder(codes.view(-1, *grid)).float().clamp(-1, 1)
        return ((painted + 1) / 2 * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def to_unit(images):
    """uint8 [n, h, w, 3] → float −1 … 1 [n, 3, h, w], channels last in memory."""
    return torch.from_numpy(images).to(DEVICE).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def loss_of(painted, target):
    """Absolute and squared error, and the error of the differences of neighbouring pixels."""
    error = painted - target
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return error.abs().mean() + 2 * error.square().mean() + across.abs().mean() + down.abs().mean()


def psnr(painted, target):
    return (10 * torch.log10(4 / (painted.clamp(-1, 1) - target).square().mean((1, 2, 3)))).mean().item()


def train_codes(config, work, replicas):
    """Learn the encoder and its codes on parts of pictures, against half their size."""
    settings, patch = config["dvae"]["train"], config["dvae"]["encoder"]["patch"]
    model = Dvae(config["dvae"], "draft_decoder").to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), settings["rate"], betas=(0.9, 0.99), weight_decay=1e-4)
    run = Run(os.path.join(work, "codes.pt"), settings, {"model": model}, {"optimizer": optimizer}, replicas)
    stream, rng = batches(config, settings["batch"], f"codes {replicas.rank} {run.step}"), np.random.default_rng((run.step, replicas.rank))
    check = to_unit(still(config, config["check"]["scenes"], seed=2)[2])

    def reconstruct(x):
        values, codes = model.quantizer(model.encoder(x))
        return model.decoder.paint(values), codes

    while run.running():
        run.rates(settings["warmup"], settings["decay"])
        x = to_unit(detailed_crops(next(stream)[1], settings["crop"], patch, rng))
        loss = loss_of(reconstruct(x)[0], F.avg_pool2d(x, 2))
        optimizer.zero_grad()
        loss.backward()
        replicas.average_gradients(model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        run.step += 1
        if run.due():
            with torch.no_grad():
                painted, codes = reconstruct(check)
            share = torch.bincount(codes.flatten(), minlength=model.quantizer.size) / codes.numel()
            bits = -(share * share.clamp_min(1e-9).log2()).sum().item()
            run.report(loss=loss.item(), psnr=psnr(painted, F.avg_pool2d(check, 2)), bits=bits, images=run.rate(settings["batch"]))
    run.save()


def load_codes(config, work):
    """The trained autoencoder: frozen codes and, once it is trained, the decoder that is shipped."""
    model = Dvae(config["dvae"]).to(DEVICE, memory_format=torch.channels_last).eval()
    kept = torch.load(os.path.join(work, "codes.pt"), map_location=DEVICE)["model"]
    model.encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in kept.items() if name.startswith("encoder.")})
    path = os.path.join(work, "decoder.pt")
    if os.path.exists(path):
        model.decoder.load_state_dict(torch.load(path, map_location=DEVICE)["decoder"])
    return model.requires_grad_(False)


def train_decoder(config, work, replicas):
    """Learn to paint the frozen codes at full size; parts of pictures, and the last share of the time whole ones."""
    settings, patch = config["dvae"]["refit"], config["dvae"]["encoder"]["patch"]
    model = load_codes(config, work)
    decoder = model.decoder.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(decoder.parameters(), settings["rate"], betas=(0.9, 0.98), weight_decay=1e-4)
    run = Run(os.path.join(work, "decoder.pt"), settings, {"decoder": decoder}, {"optimizer": optimizer}, replicas)
    stream, rng = batches(config, settings["batch"], f"decoder {replicas.rank} {run.step}"), np.random.default_rng((run.step, replicas.rank, 1))
    grid, images = config["transformer"]["grid"], still(config, config["check"]["scenes"], seed=2)[2]
    check_codes, check = model.encode(images).view(-1, *grid), to_unit(images)
    while run.running():
        run.rates(settings["warmup"], settings["decay"])
        images = next(stream)[1]
        side = settings["crop"] if run.progress < 1 - settings["whole"] else images.shape[1]
        if side < images.shape[1]:
            images = detailed_crops(images, side, patch, rng)
        else:
            images = images[: max(1, settings["batch"] * settings["crop"] ** 2 // side**2)]
        codes = model.encode(images).view(-1, side // patch, side // patch)
        loss = loss_of(decoder(codes), to_unit(images))
        optimizer.zero_grad()
        loss.backward()
        replicas.average_gradients(decoder.parameters())
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        run.step += 1
        if run.due():
            with torch.no_grad():
                painted = decoder(check_codes)
            run.report(loss=loss.item(), psnr=psnr(painted, check), images=run.rate(settings["batch"]))
    run.save()
