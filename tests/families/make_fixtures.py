"""Writes what the families' own packages make of weights that a formula gives, for the tests of easel-onnx, which need no Python.

    .tools/recipe/bin/python tests/families/make_fixtures.py

Only names, shapes and results are kept: crates/onnx/tests/common/formula.rs makes the same weights by the same formula.
"""

import json
import math
import re
from pathlib import Path

import numpy as np
import originals
import torch

OUT = Path(__file__).parents[2] / "crates/onnx/tests/fixtures"
MASK = 2**64 - 1
CODES = 24
DECIDED = 1e-3


def numbers(key: str, count: int) -> np.ndarray:
    """SplitMix64 from the key's FNV-1a hash: numbers from -1 to 1."""
    seed = 0xCBF29CE484222325
    for byte in key.encode():
        seed = (seed ^ byte) * 0x100000001B3 & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def weight(key: str, shape: list[int]) -> np.ndarray:
    values = numbers(key, math.prod(shape))
    if len(shape) > 1:
        values = values * (1.6 * math.sqrt(3 / math.prod(shape[1:])))
    elif key.endswith(("bias", ".b", "running_mean")):
        values = values * 0.2
    else:
        values = 1 + values * 0.3
    return values.astype(np.float32).reshape(shape)


def fill(model: torch.nn.Module) -> dict[str, list[int]]:
    """Gives the model its weights; names and shapes."""
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point() and not key.startswith(("loss.", "model.decoder.idwt."))}
    made = {key: torch.tensor(weight(key, list(value.shape))) for key, value in state.items()}
    model.load_state_dict(made, strict=False)
    model.eval()
    return {key: list(value.shape) for key, value in state.items()}


def integers(key: str, count: int, bound: int) -> np.ndarray:
    return np.floor((numbers(key, count) + 1) / 2 * bound).astype(np.int64)


def floats(height: int, width: int) -> torch.Tensor:
    """A picture, 0 … 1, channels first."""
    picture = integers("picture", height * width * 3, 256).reshape(1, height, width, 3)
    return torch.tensor(picture).permute(0, 3, 1, 2).float() / 255


def hexadecimal(pixels: torch.Tensor, down: bool) -> str:
    scaled = pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
    return np.floor(scaled if down else scaled + 0.5).astype(np.uint8).tobytes().hex()


def write(name: str, fixture: dict) -> None:
    text = re.sub(r"\n  +", " ", json.dumps(fixture, indent=1)).replace("\n ]", " ]")
    (OUT / f"{name}.json").write_text(text + "\n")


def autoencoder(layout: str, shapes: dict, grid: tuple[int, int], pixels: torch.Tensor, down: bool, scores: torch.Tensor, size: tuple[int, int]) -> None:
    """`scores` [1, codes, …] are of the picture of `size`."""
    best = scores.flatten(2).topk(2, dim=1).values
    decided = (best[:, 0] - best[:, 1] > DECIDED * scores.std())[0]
    chosen = scores.flatten(2).argmax(1)[0]
    encoded = [int(token) if sure else -1 for token, sure in zip(chosen, decided, strict=True)]
    assert len(set(encoded)) > 2, f"{layout}: few tokens"
    write(f"pictures/{layout}", dict(layout=layout, rows=grid[0], columns=grid[1], codes=int(scores.shape[1]), height=size[0], width=size[1], tensors=shapes, pixels=hexadecimal(pixels, down), encoded=encoded))


def nearness(z: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return -((z[:, None] - table[None, :, :, None, None]) ** 2).sum(2)


def tokens(cells: int, codes: int = CODES) -> torch.Tensor:
    return torch.tensor(integers("tokens", cells, codes))[None]


def taming() -> None:
    from taming.models.vqgan import VQModel

    config = dict(
        double_z=False, z_channels=32, resolution=12, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2], num_res_blocks=1, attn_resolutions=[6], dropout=0.0
    )
    model = VQModel(config, dict(target="torch.nn.Identity"), n_embed=CODES, embed_dim=12)
    shapes = fill(model)
    z = model.quantize.embedding.weight[tokens(48)].reshape(1, 6, 8, -1).permute(0, 3, 1, 2)
    scores = nearness(model.quant_conv(model.encoder(2 * floats(12, 16) - 1)), model.quantize.embedding.weight)
    autoencoder("taming", shapes, (6, 8), model.decode(z) / 2 + 0.5, False, scores, (12, 16))


def rudalle() -> None:
    from omegaconf import OmegaConf
    from rudalle.vae.model import VQGanGumbelVAE

    config = dict(
        double_z=False, z_channels=32, resolution=12, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2], num_res_blocks=1, attn_resolutions=[6], dropout=0.0
    )
    params = dict(ddconfig=config, n_embed=CODES, embed_dim=32, kl_weight=1e-8)
    model = VQGanGumbelVAE(OmegaConf.create(dict(model=dict(params=params))), dwt=True)
    shapes = fill(model)
    scores = model.model.quantize.proj(model.model.quant_conv(model.model.encoder(2 * floats(12, 12) - 1)))
    autoencoder("rudalle", shapes, (6, 6), model.decode(tokens(36)), True, scores, (12, 12))


def janus() -> None:
    from transformers import JanusVQVAEConfig
    from transformers.models.janus.modeling_janus import JanusVQVAE

    model = JanusVQVAE(
        JanusVQVAEConfig(embed_dim=8, num_embeddings=CODES, latent_channels=32, num_patches=6, base_channels=32, channel_multiplier=[1, 2], num_res_blocks=1)
    )
    shapes = fill(model)
    z = torch.nn.functional.normalize(model.quant_conv(model.encoder(2 * floats(12, 12) - 1)), dim=1)
    scores = nearness(z, torch.nn.functional.normalize(model.quantize.embedding.weight, dim=1))
    autoencoder("janus", shapes, (6, 6), model.decode(tokens(36)) / 2 + 0.5, True, scores, (12, 12))


def emu3() -> None:
    from transformers import Emu3VQVAEConfig
    from transformers.models.emu3.modeling_emu3 import Emu3VQVAE

    config = dict(codebook_size=CODES, base_channels=32, channel_multiplier=[1, 2], num_res_blocks=1, attn_resolutions=[1], hidden_size=64)
    model = Emu3VQVAE(Emu3VQVAEConfig(temporal_downsample_factor=4, num_attention_heads=1, embed_dim=4, latent_channels=4, **config))
    shapes = fill(model)
    film = (2 * floats(12, 16) - 1).unsqueeze(1).repeat(1, 4, 1, 1, 1)
    z = model.quant_conv(model.encoder(film).permute(0, 2, 1, 3, 4))[:, :, 0]
    pixels = model.decode(tokens(48).reshape(1, 6, 8)) / 2 + 0.5
    autoencoder("emu3", shapes, (6, 8), pixels, True, nearness(z, model.quantize.embedding.weight), (12, 16))


def discrete() -> None:
    from dalle_pytorch import DiscreteVAE

    model = DiscreteVAE(image_size=32, num_layers=2, num_tokens=CODES, codebook_dim=12, hidden_dim=16, num_resnet_blocks=1)
    shapes = fill(model)
    scores = model(floats(32, 32), return_logits=True)
    autoencoder("dalle-pytorch", shapes, (8, 8), model.decode(tokens(64)) / 2 + 0.5, False, scores, (32, 32))


def openai() -> None:
    from dall_e import Decoder, Encoder, map_pixels, unmap_pixels

    both = dict(enc=Encoder(n_hid=64, n_blk_per_group=1, vocab_size=512), dec=Decoder(n_init=8, n_hid=64, n_blk_per_group=1, vocab_size=512))
    model = torch.nn.ModuleDict(both)
    shapes = fill(model)
    ids = torch.nn.functional.one_hot(tokens(36, 512).reshape(1, 6, 6), 512).permute(0, 3, 1, 2).float()
    pixels = unmap_pixels(torch.sigmoid(model["dec"](ids)[:, :3]))
    autoencoder("openai", shapes, (6, 6), pixels, True, model["enc"](map_pixels(floats(48, 48))), (48, 48))


def clip() -> None:
    from transformers import CLIPConfig, CLIPModel

    end, context = 279, 12
    tower = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    text = dict(tower, vocab_size=end + 1, max_position_embeddings=context, eos_token_id=end, hidden_act="gelu")
    vision = dict(tower, image_size=48, patch_size=8, hidden_act="gelu")
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    shapes = fill(model)
    ids = torch.tensor(integers("ids", context, end))[None]
    ids[0, 7] = end
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = (floats(48, 48) - mean[:, None, None]) / std[:, None, None]
    images, texts = model.get_image_features(pixel_values=pixels), model.get_text_features(input_ids=ids)
    unit = [torch.nn.functional.normalize(getattr(x, "pooler_output", x), dim=-1)[0].tolist() for x in (images, texts)]
    write("pictures/clip", dict(size=48, context=context, end=end, at=7, tensors=shapes, image=unit[0], text=unit[1]))


def min_dalle() -> None:
    """Texts that are encoded, and the tokens that the decoder gives, the most likely each time."""
    from min_dalle import MinDalle
    from min_dalle.models import DalleBartDecoder, DalleBartEncoder
    from min_dalle.models.vqgan_detokenizer import VQGanDetokenizer

    torch.set_num_threads(1)
    width, layers, texts = 64, 2, 40
    parts = dict(encoder=DalleBartEncoder(layers, width, 1, texts, 64, 96, "cpu"), decoder=DalleBartDecoder(16384, width, 1, 96, layers, "cpu"))
    shapes = {name: fill(part) for name, part in parts.items()}
    # The pictures' network is made narrow; only the importer sees it.
    narrow = {512: 64, 256: 32, 128: 32}
    shapes["pictures"] = {key: [narrow.get(size, size) for size in value.shape] for key, value in VQGanDetokenizer().state_dict().items()}
    original = MinDalle.__new__(MinDalle)
    original.device, original.dtype, original.is_reusable, original.text_token_count = "cpu", torch.float32, True, 64
    original.layer_count, original.embed_count = layers, width
    original.encoder, original.decoder = parts["encoder"], parts["decoder"]
    original.image_grid_from_tokens = lambda image_tokens, **_: image_tokens.clone()
    sequences = []
    for length in (5, 23):
        text = [0, *(integers(f"text {length}", length, texts - 4) + 4).tolist(), 2]
        original.tokenizer = type("Given", (), {"tokenize": lambda self, prompt, is_verbose, text=text: text})()
        tokens = next(original.generate_raw_image_stream("", seed=1, grid_size=1, top_k=1, supercondition_factor=1))[0].tolist()
        assert len(set(tokens)) > 20, "the tokens are much alike"
        sequences.append(dict(text=text, image=tokens))
    write("min-dalle", dict(**shapes, sequences=sequences))


def llamagen() -> None:
    """Captions, and what stands for none, that are embedded, and the tokens that the transformer gives, the most likely each time."""
    import test_llamagen as family
    from transformers import T5EncoderModel

    t5 = T5EncoderModel(family.reader().config).eval()
    shapes = dict(transformer=fill(original := family.Original(True, family.HEADS)), reader=fill(t5))
    # The same tensor under two names.
    del shapes["reader"]["shared.weight"]
    t5.shared.weight.copy_(torch.tensor(weight("encoder.embed_tokens.weight", list(t5.shared.weight.shape))))
    shapes["pictures"] = family.renamed({key: list(value.shape) for key, value in family.vqgan().state_dict().items()})
    sequences = []
    for length in (5, 31):
        caption = (integers(f"caption {length}", length, len(family.PIECES) - 4) + 4).tolist()
        features, valid = family.features(t5, caption)
        blank = original.cls_embedding.uncond_embedding
        for text, condition in [([*caption, family.END], features), ([len(family.PIECES)] * (length + 1), blank)]:
            image = family.generate(original, (condition, condition), valid, 1.0, family.greedy)
            assert len(set(image)) > 5, "the tokens are much alike"
            sequences.append(dict(text=text, image=image))
    sizes = dict(heads=family.HEADS, picture=family.GRID * family.FACTOR, pieces=family.PIECES)
    write("llamagen", dict(**sizes, **shapes, sequences=sequences))


if __name__ == "__main__":
    originals.stand_in()
    torch.set_grad_enabled(False)
    for make in (taming, rudalle, janus, emu3, discrete, openai, clip, min_dalle, llamagen):
        make()
