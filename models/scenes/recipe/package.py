"""A package's weights as the recipe's own, to go on training from what is shipped.

The importer folds what it can: factors and norms of the autoencoder into its convolutions, rows and columns into one table of positions, digits
into the codes' embeddings, the ranker's class into its place; and what only training needs, the text's head and what reads attributes from
pictures, is not in a package: it is learnt anew.
"""
import json
import math
import os
import shutil

import numpy as np
import torch
import torch.nn.functional as F

from . import clip, transformer
from .dvae import Dvae

NUMBERS = {1: np.float32, 7: np.int64, 10: np.float16}  # ONNX's TensorProto.DataType
FILES = ("tokenizer.json", "ranker_tokenizer.json", "words.txt")


def _varint(data, start):
    value, shift = 0, 0
    while True:
        byte = data[start]
        value, shift, start = value | (byte & 127) << shift, shift + 7, start + 1
        if byte < 128:
            return value, start


def _fields(data):
    """The fields of a protobuf message: (number, an integer or the bytes)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if key & 7 == 2 else (8 if key & 7 == 1 else 4, at)
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def _sizes(values):
    """A repeated integer, packed or not."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            size, at = _varint(value, at)
            yield size


def _tensor(data):
    """A TensorProto: its name and its numbers."""
    fields = list(_fields(data))
    shape = list(_sizes(value for number, value in fields if number == 1))
    one = dict(fields)
    if one.get(2) not in NUMBERS or 9 not in one:
        return None, None
    return bytes(one[8]).decode(), torch.from_numpy(np.frombuffer(one[9], NUMBERS[one[2]]).reshape(shape).copy())


def read_graph(path):
    """The tensors of an ONNX file that lie within it."""
    with open(path, "rb") as file:
        model = memoryview(file.read())
    graph = next(value for number, value in _fields(model) if number == 7)
    tensors = dict(_tensor(value) for number, value in _fields(graph) if number == 5)
    return {name: tensor.float() for name, tensor in tensors.items() if name and tensor.is_floating_point()}


def _taken(model, tensors, layers):
    """The state of a model with those tensors that a package has under the same names; it keeps the matrices of `layers` transposed."""
    state = model.state_dict()
    for name in state:
        if name in tensors:
            state[name] = tensors[name].mT if tensors[name].ndim == 2 and layers in name else tensors[name]
    return state


def _sampler(model, tensors):
    """The state of a transformer with the package's weights."""
    state = _taken(model, tensors, "layers.")
    text, places = tensors["position"].split([model.text, len(model.places())])
    places = places.view(*model.grid, -1)
    state["text_position.weight"], state["code_embedding.weight"] = text, tensors["image_embedding.weight"]
    state["row_position.weight"], state["column_position.weight"] = places[:, 0], places[0] - places[0, :1]
    state["digit_embedding.weight"].zero_()
    state["image_bias"], state["text_head.weight"] = tensors["image_head.bias"], tensors["text_embedding.weight"].clone()
    return state


def _autoencoder(model, tensors):
    state = model.state_dict()
    for name in state:
        if name in tensors:
            state[name] = tensors[name]
        elif name.endswith((".norm.weight", ".scale")):
            state[name].fill_(1)
        elif name.endswith(".norm.bias"):
            state[name].zero_()
    return state


def _for_pieces(kernel, side):
    """A layer that reads pieces of pictures as the given one does of pieces that were first resized to what it reads (Beyer et al. 2023, *FlexiViT*)."""
    if kernel.shape[-1] == side:
        return kernel
    enlarge = F.interpolate(torch.eye(side * side).view(-1, 1, side, side), kernel.shape[-2:], mode="bilinear", antialias=True)
    return (kernel.flatten(2) @ enlarge.flatten(1).T).view(*kernel.shape[:2], side, side)


def _for_places(embedding, count):
    """The embeddings of the class and of a square of `count` places, between those of another square."""
    square = [math.isqrt(each) for each in (len(embedding) - 1, count)]
    places = embedding[1:].T.view(1, -1, square[0], square[0])
    resized = F.interpolate(places, (square[1], square[1]), mode="bicubic", align_corners=False) if square[0] != square[1] else places
    return torch.cat([embedding[:1], resized.flatten(2)[0].T])


def _ranker(model, tensors, logit_scale):
    """The state of a CLIP with the package's weights; where the configuration's pieces of a picture are of another size, its first layer is
    resized, and where it has more blocks, these change nothing at first."""
    kernel, places = model.visual.conv1.weight, len(model.visual.positional_embedding) - 1
    tensors = {**tensors, "visual.conv1.weight": _for_pieces(tensors["visual.conv1.weight"], kernel.shape[-1])}
    tensors["visual.positional_embedding"] = _for_places(tensors["visual.positional_embedding"], places)
    state = _taken(model, tensors, "resblocks.")
    for name in state:
        if "resblocks." in name and name not in tensors and ("out_proj" in name or "c_proj" in name):
            state[name].zero_()
    state["visual.class_embedding"].zero_()
    state["logit_scale"].fill_(math.log(logit_scale))
    return state


def start(config, work, package):
    """Write the state from which `transformer`, `decoder`, `clip` and `layout` go on; the codes stay as they are."""
    for name in FILES:
        shutil.copy(os.path.join(package, name), work)
    graphs = {name: read_graph(os.path.join(package, f"{name}.onnx")) for name in ("sampler", "encoder", "decoder", "ranker_image", "ranker_text")}
    with open(os.path.join(package, "manifest.json")) as file:
        logit_scale = json.load(file)["ranker"]["logit_scale"]
    state = _autoencoder(Dvae(config["dvae"]), {**graphs["encoder"], **graphs["decoder"]})
    kept = {"step": 0, "seconds": 0.0}
    decoder = {name.removeprefix("decoder."): tensor for name, tensor in state.items() if name.startswith("decoder.")}
    model, _ = transformer.build(config, work)
    torch.save({**kept, "model": state}, os.path.join(work, "codes.pt"))
    torch.save({**kept, "decoder": decoder}, os.path.join(work, "decoder.pt"))
    ranker = {**graphs["ranker_image"], **graphs["ranker_text"]}
    if "visual.layout.weight" in ranker and "layout" in config:
        whole, _ = clip.build(config, work)
        whole.add_layout(config["layout"])
        torch.save({**kept, "model": _ranker(whole.cpu(), ranker, logit_scale)}, os.path.join(work, "layout.pt"))
    ranker["text_projection"] = ranker["text_projection"][:, : config["clip"]["embed"]]
    torch.save({**kept, "model": _ranker(clip.build(config, work)[0].cpu(), ranker, logit_scale)}, os.path.join(work, "clip.pt"))
    torch.save({**kept, "model": _sampler(model.cpu(), graphs["sampler"])}, os.path.join(work, "transformer.pt"))
    print(f"{package}: what it holds is in {work}", flush=True)
