"""What is computed of the raw results: shares with their intervals, and rankings."""
from math import comb

import numpy as np

RESAMPLES = 2000
RANKINGS = {
    "clip": "CLIP", "likelihood": "likelihood", "gain": "caption gain", "both": "CLIP and caption gain", "nearness": "nearness to the true picture",
    "oracle": "oracle (the judge itself)"}


def interval(values):
    """Mean of the values, one for each caption, and its 95 % interval by resampling captions."""
    values = np.asarray(values, float)
    if not len(values):
        return None
    picks = np.random.default_rng(1).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(1), [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "captions": len(values)}


def difference(left, right):
    """The difference of the means of two groups of captions, and its 95 % interval."""
    if not len(left) or not len(right):
        return None
    rng, left, right = np.random.default_rng(1), np.asarray(left, float), np.asarray(right, float)
    drawn = [values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1) for values in (left, right)]
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    return {"mean": float(left.mean() - right.mean()), "low": float(low), "high": float(high)}


def all_right(record):
    """For each candidate, whether every attribute is right."""
    return np.array(list(record["judged"].values())).all(0)


def share_right(record):
    """For each candidate, the share of its attributes that are right."""
    return np.array(list(record["judged"].values())).mean(0)


def _standard(values):
    spread = values.std()
    return (values - values.mean()) / spread if spread else np.zeros_like(values)


def scores(record):
    """The rankings that can be made of a record: name → a score for each candidate."""
    raw, known = record["candidates"], {"oracle": all_right(record).astype(float)}
    likelihood = np.array([each["likelihood"] for each in raw])
    known["likelihood"] = likelihood
    if all("clip" in each for each in raw):
        known["clip"] = np.array([each["clip"] for each in raw])
    if all("unconditional" in each for each in raw):
        known["gain"] = likelihood - [each["unconditional"] for each in raw]
    if "clip" in known and "gain" in known:
        known["both"] = _standard(known["clip"]) + _standard(known["gain"])
    if "far" in record:
        known["nearness"] = -np.array(record["far"])
    return known


def best_of(n, score, values):
    """The value of the candidate with the best score, on average over all ways to draw only n of the candidates."""
    total, ordered = len(values), np.asarray(values, float)[np.argsort(-np.asarray(score), kind="stable")]
    weights = np.array([comb(total - place - 1, n - 1) for place in range(total)]) / comb(total, n)
    return float(ordered @ weights)
