"""Autoencoders: pixels within 1 of 255 of the original's, tokens equal wherever the original's choice is decided."""

import json
from types import SimpleNamespace

import numpy as np
import originals
import pytest
import torch

CODES = 96
DDCONFIG = dict(
    double_z=False, z_channels=32, resolution=32, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2, 2], num_res_blocks=1, attn_resolutions=[8], dropout=0.0
)
# A choice is decided when the runner-up is this far behind.
DECIDED = 1e-3


def tokens(cells: int, codes: int = CODES) -> torch.Tensor:
    return torch.randint(0, codes, (2, cells))


def photos(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 3) * 127 + 128, np.cos(y / 2) * 127 + 128, (x * y) % 256], -1)
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3))
    return ((waves + noise) / 2).clip(0, 255).astype(np.uint8)


def planes(pictures: np.ndarray) -> torch.Tensor:
    """Bytes as floats 0 … 1, channels first."""
    return torch.tensor(pictures).permute(0, 3, 1, 2).float() / 255


def hold_pixels(made: np.ndarray, floats: torch.Tensor, down: bool) -> None:
    """`floats` are 0 … 1, channels first, as the original gives them before it makes bytes."""
    scaled = floats.clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
    expected = np.floor(scaled if down else scaled + 0.5)
    difference = np.abs(made.astype(int) - expected)
    assert made.dtype == np.uint8 and made.shape == expected.shape
    assert expected.std() > 5, "the picture is flat"
    print(f"pixels: greatest difference {difference.max():.0f}, {np.mean(difference > 0):.1e} of them; spread {expected.std():.0f}")
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


def hold_tokens(made: np.ndarray, scores: torch.Tensor) -> None:
    """`scores` [b, codes, …]: the greatest is the token."""
    scores = scores.flatten(2)
    best = scores.topk(2, dim=1).values
    decided = (best[:, 0] - best[:, 1] > DECIDED * scores.std()).numpy()
    expected = scores.argmax(1).numpy()
    assert made.shape == expected.shape and len(np.unique(expected)) > 3
    print(f"tokens: {np.mean(made == expected):.4f} equal, {np.mean(decided):.4f} decided, {len(np.unique(expected))} different")
    assert decided.mean() > 0.9 and (made == expected)[decided].all()


def nearness(z: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Less is further: minus the square of the distance to every code."""
    return -((z[:, None] - table[None, :, :, None, None]) ** 2).sum(2)


def codes_like(z: torch.Tensor, codes: int = CODES) -> torch.Tensor:
    """Codes near what the encoder gives, so that pictures have many different tokens."""
    places = z.permute(0, 2, 3, 1).flatten(0, 2)
    chosen = places[torch.randint(0, len(places), (codes,))]
    return chosen + torch.randn_like(chosen) * places.std(0) / 4


def set_codes(quantize: torch.nn.Module, z: torch.Tensor) -> None:
    """Of a quantiser that has logits, the nearest code's logit is the greatest."""
    table = codes_like(z)
    if hasattr(quantize, "proj"):
        quantize.proj.weight.copy_(2 * table[:, :, None, None])
        quantize.proj.bias.copy_(-(table**2).sum(1))
    else:
        quantize.embedding.weight.copy_(table)


def save(model: torch.nn.Module, path, **beside: object):
    torch.save({"state_dict": model.state_dict(), **beside} if beside else model.state_dict(), path)
    return path


def taming(gumbel: bool, **changes: object):
    from taming.models.vqgan import GumbelVQ, VQModel

    config = {**DDCONFIG, **changes}
    loss = dict(target="torch.nn.Identity")
    scheduler = dict(target="torch.nn.Identity")
    if gumbel:
        model = GumbelVQ(config, loss, n_embed=CODES, embed_dim=32, temperature_scheduler_config=scheduler)
    else:
        model = VQModel(config, loss, n_embed=CODES, embed_dim=24)
    return originals.perturb(model, 1.3)


def table_of(model) -> torch.Tensor:
    quantize = model.quantize
    return quantize.embed.weight if hasattr(quantize, "embed") else quantize.embedding.weight


def decoded(model, ids: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    z = table_of(model)[ids].reshape(len(ids), rows, columns, -1).permute(0, 3, 1, 2)
    return model.decode(z).clamp(-1, 1) * 0.5 + 0.5


@pytest.mark.parametrize(
    ("layout", "gumbel", "levels"),
    [("taming", False, [1, 2, 2]), ("taming", True, [1, 1, 2, 2]), ("chameleon", False, [1, 1, 2, 2]), ("mindall-e", False, [1, 1, 2])],
)
def test_taming(run_part, tmp_path, layout, gumbel, levels):
    """Chameleon and minDALL-E keep taming-transformers' own network, and cut where it rounds."""
    model = taming(gumbel, ch_mult=levels)
    model.loss.register_parameter("lpips", torch.nn.Parameter(torch.ones(3)))
    factor = 2 ** (len(levels) - 1)
    pictures = photos(6 * factor, 8 * factor)
    z = model.quant_conv(model.encoder(2 * planes(pictures) - 1))
    set_codes(model.quantize, z)
    graphs = run_part("pictures", layout, save(model, tmp_path / "model.ckpt", epoch=3), 6, 8)
    ids = tokens(48)
    hold_pixels(graphs["decoder"](ids.numpy()), decoded(model, ids, 6, 8), down=layout != "taming")
    scores = model.quantize.proj(z) if gumbel else nearness(z, table_of(model))
    hold_tokens(graphs["encoder"](pictures), scores)


@pytest.mark.parametrize("wavelets", [False, True])
def test_rudalle(run_part, tmp_path, wavelets):
    from omegaconf import OmegaConf
    from rudalle.vae.model import VQGanGumbelVAE

    params = dict(ddconfig=dict(DDCONFIG), n_embed=CODES, embed_dim=32, kl_weight=1e-8)
    vae = VQGanGumbelVAE(OmegaConf.create(dict(model=dict(params=params))), dwt=wavelets)
    originals.perturb(vae, 1.3)
    pictures = photos(32, 32)
    z = vae.model.quant_conv(vae.model.encoder(2 * planes(pictures) - 1))
    set_codes(vae.model.quantize, z)
    checkpoint = save(vae if wavelets else vae.model, tmp_path / "vqgan.ckpt", epoch=3)
    graphs = run_part("pictures", "rudalle", checkpoint, 8, 8)
    ids = tokens(64)
    hold_pixels(graphs["decoder"](ids.numpy()), vae.decode(ids), down=True)
    hold_tokens(graphs["encoder"](pictures), vae.model.quantize.proj(z))
    chosen = vae.get_codebook_indices(planes(pictures), disable_gumbel_softmax=True)
    assert (graphs["encoder"](pictures) == chosen.numpy()).mean() > 0.99


def test_min_dalle(run_part, tmp_path):
    from min_dalle.models.vqgan_detokenizer import VQGanDetokenizer

    model = originals.perturb(VQGanDetokenizer(), 1.2)
    graphs = run_part("pictures", "min-dalle", save(model, tmp_path / "detoker.pt"), 16, 16)
    ids = tokens(256, 16384)[:1]
    pixels = model(False, ids).reshape(1, 256, 256, 3).permute(0, 3, 1, 2) / 255
    hold_pixels(graphs["decoder"](ids.numpy()), pixels, down=True)
    assert "encoder" not in graphs


LLAMAGEN = {
    ".mid.block_1.": ".mid.0.", ".mid.attn_1.": ".mid.1.", ".mid.block_2.": ".mid.2.",
    ".up.": ".conv_blocks.", ".down.": ".conv_blocks.", ".block.": ".res.",
}  # fmt: skip


@pytest.mark.parametrize("names", ["hugging face", "janus", "llamagen"])
def test_janus(run_part, tmp_path, names):
    """LlamaGen and the original Janus share one network, whose names of keys differ from Hugging Face's."""
    from transformers import JanusVQVAEConfig
    from transformers.models.janus.modeling_janus import JanusVQVAE

    config = JanusVQVAEConfig(
        embed_dim=8, num_embeddings=CODES, latent_channels=32, num_patches=8, base_channels=32, channel_multiplier=[1, 2, 2], num_res_blocks=1
    )
    model = JanusVQVAE(config)
    originals.perturb(model, 1.3)
    pictures = photos(32, 32)
    z = model.quant_conv(model.encoder(2 * planes(pictures) - 1))
    set_codes(model.quantize, z)
    state = model.state_dict()
    if names == "hugging face":
        state = {f"model.vqmodel.{key}": value for key, value in state.items()}
    else:
        for old, new in LLAMAGEN.items():
            state = {key.replace(old, new): value for key, value in state.items()}
        prefix = "gen_vision_model." if names == "janus" else ""
        state = {f"{prefix}{key}": value for key, value in state.items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    layout = "llamagen" if names == "llamagen" else "janus"
    graphs = run_part("pictures", layout, tmp_path / "pytorch_model.bin", 8, 8)
    ids = tokens(64)
    hold_pixels(graphs["decoder"](ids.numpy()), model.decode(ids) / 2 + 0.5, down=layout == "janus")
    z = torch.nn.functional.normalize(z, dim=1)
    table = torch.nn.functional.normalize(model.quantize.embedding.weight, dim=1)
    hold_tokens(graphs["encoder"](pictures), nearness(z, table))


@pytest.mark.parametrize("attention", [True, False])
def test_diffusers(run_part, tmp_path, attention):
    from diffusers import VQModel

    levels = dict(down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"], up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"])
    model = VQModel(
        **levels, block_out_channels=(32, 64), layers_per_block=1, latent_channels=8, num_vq_embeddings=CODES, vq_embed_dim=6, mid_block_add_attention=attention
    )
    originals.perturb(model, 1.3)
    pictures = photos(16, 16)
    latents = model.encode(2 * planes(pictures) - 1).latents
    set_codes(model.quantize, latents)
    model.save_pretrained(tmp_path / "vq")
    graphs = run_part("pictures", "diffusers", tmp_path / "vq", 8, 8)
    ids = tokens(64)
    z = model.quantize.get_codebook_entry(ids.flatten(), (2, 8, 8, 6))
    hold_pixels(graphs["decoder"](ids.numpy()), model.decode(z, force_not_quantize=True).sample / 2 + 0.5, down=False)
    hold_tokens(graphs["encoder"](pictures), nearness(latents, model.quantize.embedding.weight))


@pytest.mark.parametrize("blocks", [0, 2])
def test_dalle_pytorch(run_part, tmp_path, blocks):
    from dalle_pytorch import DiscreteVAE

    model = DiscreteVAE(image_size=64, num_layers=3, num_tokens=CODES, codebook_dim=24, hidden_dim=16, num_resnet_blocks=blocks)
    originals.perturb(model, 1.5)
    torch.save({"hparams": {"image_size": 64}, "weights": {f"vae.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "dalle.pt")
    graphs = run_part("pictures", "dalle-pytorch", tmp_path / "dalle.pt", 8, 8)
    ids = tokens(64)
    hold_pixels(graphs["decoder"](ids.numpy()), model.decode(ids) / 2 + 0.5, down=False)
    pictures = photos(64, 64)
    hold_tokens(graphs["encoder"](pictures), model(planes(pictures), return_logits=True))


@pytest.mark.parametrize("whole", [False, True])
def test_openai(run_part, tmp_path, whole):
    """Two files of whole modules, or one of another model that holds them."""
    from dall_e import Decoder, Encoder, map_pixels, unmap_pixels

    decoder = originals.perturb(Decoder(n_init=16, n_hid=64, n_blk_per_group=1, vocab_size=512), 1.5)
    encoder = originals.perturb(Encoder(n_hid=64, n_blk_per_group=1, vocab_size=512), 2.5)
    if whole:
        torch.save(decoder, tmp_path / "decoder.pkl")
        torch.save(encoder, tmp_path / "encoder.pkl")
    else:
        both = torch.nn.ModuleDict(dict(enc=encoder, dec=decoder)).state_dict()
        torch.save({"weights": {f"vae.{key}": value for key, value in both.items()}}, tmp_path / "dalle.pt")
    graphs = run_part("pictures", "openai", tmp_path if whole else tmp_path / "dalle.pt", 8, 8)
    ids = tokens(64, 512)
    stats = decoder(torch.nn.functional.one_hot(ids.reshape(2, 8, 8), 512).permute(0, 3, 1, 2).float())
    hold_pixels(graphs["decoder"](ids.numpy()), unmap_pixels(torch.sigmoid(stats[:, :3])), down=True)
    pictures = photos(64, 64)
    hold_tokens(graphs["encoder"](pictures), encoder(map_pixels(planes(pictures))))


@pytest.mark.parametrize("frames", [1, 4])
def test_emu3(run_part, tmp_path, frames):
    """A picture is the first frame of a film of `frames` frames a token."""
    from transformers import Emu3VQVAEConfig
    from transformers.models.emu3.modeling_emu3 import Emu3VQVAE

    config = Emu3VQVAEConfig(
        codebook_size=CODES,
        embed_dim=4,
        latent_channels=4,
        base_channels=32,
        channel_multiplier=[1, 2, 2],
        num_res_blocks=1,
        attn_resolutions=[2],
        hidden_size=64,
        num_attention_heads=1,
        temporal_downsample_factor=frames,
    )
    model = originals.perturb(Emu3VQVAE(config), 1.1)
    pictures = photos(24, 32)
    film = (2 * planes(pictures) - 1).unsqueeze(1).repeat(1, frames, 1, 1, 1)
    z = model.quant_conv(model.encoder(film).permute(0, 2, 1, 3, 4))[:, :, 0]
    model.quantize.embedding.weight.copy_(codes_like(z))
    torch.save({f"model.vqmodel.{key}": value for key, value in model.state_dict().items()}, tmp_path / "pytorch_model.bin")
    graphs = run_part("pictures", "emu3", tmp_path / "pytorch_model.bin", 6, 8)
    ids = tokens(48)
    hold_pixels(graphs["decoder"](ids.numpy()), model.decode(ids.reshape(2, 6, 8)) / 2 + 0.5, down=True)
    hold_tokens(graphs["encoder"](pictures), nearness(z, model.quantize.embedding.weight))
    chosen = model.encode(2 * planes(pictures) - 1, torch.tensor([[24, 32]] * 2)).image_tokens
    assert (graphs["encoder"](pictures) == torch.stack(chosen).flatten(1).numpy()).mean() > 0.99


def test_image_gpt(run_part, tmp_path):
    from transformers.models.imagegpt.image_processing_pil_imagegpt import color_quantize

    clusters = np.random.default_rng(1).uniform(-1, 1, (512, 3)).astype(np.float32)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(dict(clusters=clusters.tolist())))
    graphs = run_part("pictures", "image-gpt", tmp_path, 32, 32)
    ids = tokens(1024, 512).numpy()
    expected = np.rint(127.5 * (clusters[ids] + 1)).astype(np.uint8).reshape(2, 32, 32, 3)
    assert (graphs["decoder"](ids) == expected).all()
    pictures = photos(32, 32)
    flat = (pictures / 127.5 - 1).reshape(-1, 3).astype(np.float32)
    assert (graphs["encoder"](pictures).flatten() == color_quantize(flat, clusters)).mean() > 0.999


def test_no_picture_depends_on_the_others_of_a_call(run_part, tmp_path):
    model = taming(False)
    graphs = run_part("pictures", "taming", save(model, tmp_path / "model.ckpt"), 8, 8)
    ids = tokens(64).numpy()
    assert (graphs["decoder"](ids)[1] == graphs["decoder"](ids[1:])[0]).all()


def test_what_does_not_fit_is_refused(run_part, tmp_path):
    model = taming(False)
    state = SimpleNamespace(state_dict=lambda: {**model.state_dict(), "decoder.conv_in.weight": torch.ones(64, 31, 3, 3)})
    with pytest.raises(AssertionError, match=r"tensor decoder.conv_in.weight: expected shape \[64, 32, 3, 3\], found shape \[64, 31, 3, 3\]"):
        run_part("pictures", "taming", save(state, tmp_path / "model.ckpt"), 8, 8)
