"""The mean of several samplers' weights.

Of a sampler before and after more training, it is nearer to pictures of unseen combinations than either (Wortsman et al. 2022, *Robust
fine-tuning of zero-shot models*): what was learnt of the combinations that are shown is half kept, and so is what was not yet forgotten of others.
"""
import os
import shutil

import torch


def average(work, others):
    """Make `work` a folder like the last of `others`, whose sampler is the mean of all of theirs, without states of optimisers."""
    kept = [torch.load(os.path.join(folder, "transformer.pt"), map_location="cpu")["model"] for folder in others]
    mean = {name: sum(state[name].float() for state in kept) / len(kept) for name in kept[0]}
    shutil.copytree(others[-1], work, dirs_exist_ok=True)
    torch.save({"step": 0, "seconds": 0.0, "model": mean}, os.path.join(work, "transformer.pt"))
