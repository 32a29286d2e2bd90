"""Lets packages of 2021 and 2022 be imported beside today's PyTorch: stands in for what they import and do not need."""

import importlib.metadata
import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec

import torch

ABSENT = [
    "cv2",
    "matplotlib",
    "matplotlib.pyplot",
    "pytorch_lightning",
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers",
    "pytorch_lightning.trainer",
    "pytorch_lightning.utilities",
    "pytorch_lightning.utilities.distributed",
    "segmentation_models_pytorch",
    "youtokentome",
]


class Anything(torch.nn.Module):
    """A class, a base class or a decorator."""

    def __init__(self, *_: object, **__: object):
        super().__init__()


class Stand(types.ModuleType):
    """A module that has whatever is asked of it."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Anything,), {})


def stand_in() -> None:
    """Puts such modules where an old package looks for one; what is there already stays."""
    for name in ABSENT:
        top = name.split(".")[0]
        if name in sys.modules or (top not in sys.modules and importlib.util.find_spec(top)):
            continue
        made = Stand(name)
        made.__path__ = []
        made.__spec__ = ModuleSpec(name, None)
        sys.modules[name] = made
    # No longer of setuptools.
    versions = types.ModuleType("pkg_resources")
    versions.get_distribution = importlib.metadata.distribution
    sys.modules.setdefault("pkg_resources", versions)
    import huggingface_hub
    import transformers

    if not hasattr(huggingface_hub, "cached_download"):
        huggingface_hub.cached_download = None
    if not hasattr(transformers, "top_k_top_p_filtering"):
        transformers.top_k_top_p_filtering = None


def perturb(model: torch.nn.Module, weight: float = 1.0) -> torch.nn.Module:
    """Makes every norm and bias count, so that nothing can be mistaken for 1 or 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "embed" not in name:
                parameter.mul_(weight)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(torch.randn_like(buffer) * 0.2)
            elif name.endswith("running_var"):
                buffer.mul_(torch.rand_like(buffer) + 0.5)
    return model.eval()
