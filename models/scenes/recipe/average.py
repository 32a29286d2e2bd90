"""The mean of several samplers' weights.

Of a sampler before and after more training, it can be better at combinations that were never shown than either (Wortsman et al. 2022,
*Robust fine-tuning of zero-shot models*).
"""
import os
import shutil

import torch


def average(work, others):
    """Make `work` a folder like the last of `others`, whose sampler is the mean of all of theirs, without states of optimisers."""
    kept = [torch.load(os.path.join(folder, "transformer.pt"), map_location="cpu")["model"] for folder in others]
    mean = {name: sum(state[name].float() for state in kept) / len(kept) for name in kept[0]}
    if os.path.realpath(work) != os.path.realpath(others[-1]):
        shutil.copytree(others[-1], work, dirs_exist_ok=True)
    torch.save({"step": 0, "seconds": 0.0, "model": mean}, os.path.join(work, "transformer.pt"))
