"""Shares, intervals and rankings of made-up results."""

import itertools
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from evaluation.measures import all_right, best_of, difference, interval, scores, share_right
from evaluation.summary import lift

RECORD = {
    "judged": {"object": [True, True, False, True], "color": [False, True, True, True]},
    "candidates": [
        {"clip": 0.9, "likelihood": -10.0, "unconditional": -11.0}, {"clip": 0.2, "likelihood": -30.0, "unconditional": -50.0},
        {"clip": 0.5, "likelihood": -20.0, "unconditional": -20.0}, {"clip": 0.1, "likelihood": -40.0, "unconditional": -48.0}],
}


def test_all_right_needs_every_attribute():
    assert all_right(RECORD).tolist() == [False, True, False, True]
    assert share_right(RECORD).tolist() == [0.5, 1, 0.5, 1]


def test_best_of_n_is_the_mean_over_all_subsets():
    score, values = [0.3, 0.9, 0.1, 0.7, 0.5], [1, 0, 1, 1, 0]
    for n in range(1, 6):
        chosen = [values[max(subset, key=lambda i: score[i])] for subset in itertools.combinations(range(5), n)]
        assert best_of(n, score, values) == pytest.approx(sum(chosen) / len(chosen))


def test_rankings_are_those_of_the_raw_scores():
    known = scores(RECORD)
    assert set(known) == {"oracle", "clip", "likelihood", "gain", "both"}
    assert known["gain"].tolist() == [1, 20, 0, 8]
    assert best_of(4, known["clip"], all_right(RECORD)) == 0 and best_of(4, known["gain"], all_right(RECORD)) == 1
    assert known["both"].sum() == pytest.approx(0)


def test_a_ranking_by_nearness_puts_the_smallest_distance_first():
    known = scores({**RECORD, "far": [0.3, 0.1, 0.2, 0.4]})
    assert known["nearness"].argmax() == 1 and best_of(4, known["nearness"], all_right(RECORD)) == 1


def test_without_guidance_there_is_no_gain():
    record = {**RECORD, "candidates": [{"clip": each["clip"], "likelihood": each["likelihood"]} for each in RECORD["candidates"]]}
    assert set(scores(record)) == {"oracle", "clip", "likelihood"}


def test_the_lift_is_of_unseen_captions_with_enough_ranked_candidates():
    def record(group, right, count=16):
        candidates = [{"clip": -place, "likelihood": -1.0} for place in range(count)]
        return {"group": group, "judged": {"object": [place < right for place in range(count)]}, "candidates": candidates}

    found = lift([record("held", 4), record("held", 0), record("held", 4, count=8), record("seen", 16)])
    assert found["one"]["captions"] == 2 and found["one"]["mean"] == 0.125
    assert found["clip"]["mean"] == 0.5 and found["clip lift"]["mean"] == 0.375
    assert lift([record("held", 0)])["oracle lift"]["mean"] == 0 and lift([record("seen", 1)])["clip lift"] is None


def test_intervals_hold_the_mean():
    found = interval([0, 1] * 50)
    assert found["mean"] == 0.5 and 0.35 < found["low"] < 0.5 < found["high"] < 0.65 and found["captions"] == 100
    assert interval([]) is None
    gap = difference([1] * 50, [0, 1] * 50)
    assert gap["mean"] == 0.5 and 0.35 < gap["low"] < gap["high"] < 0.65
