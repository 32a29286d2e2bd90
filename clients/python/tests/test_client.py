"""The client against a real suite."""

import io
import subprocess
import sys
import time

import easel
import grpc
import pytest
from PIL import Image

from conftest import ROOT

PROMPT = "an armchair in the shape of an avocado"


def test_events_come_in_order_and_previews_and_pictures_decode(gateway):
    with easel.Client(gateway) as client:
        events = list(client.generate(PROMPT, candidates=2, seed=7))
        package = client.package()
    kinds = [type(e) for e in events]
    assert kinds[0] is easel.Queued and kinds[-2:] == [easel.Ranking, easel.Finished]
    assert kinds.index(easel.Started) < kinds.index(easel.Progress)
    for candidate in (0, 1):
        previews = [e for e in events if isinstance(e, easel.Preview) and e.candidate == candidate]
        assert len(previews) >= 3
        assert [p.tokens_done for p in previews] == sorted({p.tokens_done for p in previews})
        progress = [e.tokens_done for e in events if isinstance(e, easel.Progress) and e.candidate == candidate]
        assert progress == sorted(progress) and progress[-1] == package.grid.rows * package.grid.columns
    for event in events:
        if isinstance(event, (easel.Preview, easel.GeneratedPicture)):
            picture = Image.open(io.BytesIO(event.image.data))
            assert picture.size == (package.image_width, package.image_height) == (event.image.width, event.image.height)


def test_a_drawing_is_ranked_repeatable_and_saved(gateway, tmp_path):
    with easel.Client(gateway) as client:
        first = client.draw(PROMPT, candidates=4, seed=11)
        second = client.draw(PROMPT, candidates=4, seed=11)
    scores = [p.clip_score for p in first.pictures]
    assert scores == sorted(scores, reverse=True) and len(scores) == 4
    assert [p.image.data for p in first.pictures] == [p.image.data for p in second.pictures]
    assert list(first.started.seeds) == [11, 12, 13, 14]
    paths = first.save(tmp_path)
    assert [p.name for p in paths] == [f"{i:02}-seed{p.seed}.png" for i, p in enumerate(first.pictures, 1)]
    assert all(Image.open(p).size for p in paths)


def test_keep_sends_only_the_best(gateway):
    with easel.Client(gateway) as client:
        drawing = client.draw(PROMPT, candidates=4, keep=2, seed=3, format=easel.IMAGE_FORMAT_WEBP)
    assert len(drawing.pictures) == 2 and len(drawing.ranking.entries) == 4
    assert [p.candidate for p in drawing.pictures] == [e.candidate for e in drawing.ranking.entries[:2]]


def test_a_negative_prompt_changes_the_picture(gateway):
    with easel.Client(gateway) as client:
        draw = lambda **negative: client.draw(PROMPT, seed=3, guidance_scale=3, **negative).pictures[0].image_tokens
        assert draw() != draw(negative_prompt="a blue car")
        with pytest.raises(easel.Error) as caught:
            client.draw(PROMPT, guidance_scale=1, negative_prompt="a blue car")
    assert "negative_prompt" in caught.value.fields


def test_candidates_are_ordered_as_asked(gateway):
    with easel.Client(gateway) as client:
        cells = client.package().grid.rows * client.package().grid.columns
        draw = lambda **order: client.draw(PROMPT, candidates=4, seed=3, guidance_scale=2, **order)
        drawings = {by: draw(rank_by=by) for by in (easel.RANK_BY_CLIP, easel.RANK_BY_LIKELIHOOD, easel.RANK_BY_CAPTION_GAIN, easel.RANK_BY_BOTH)}
        kept = draw(rank_by=easel.RANK_BY_LIKELIHOOD, keep=1)
        plain = client.draw(PROMPT, seed=3, guidance_scale=1, rank_by=easel.RANK_BY_LIKELIHOOD).pictures[0]
        with pytest.raises(easel.Error) as caught:
            client.draw(PROMPT, guidance_scale=1, rank_by=easel.RANK_BY_CAPTION_GAIN)
    assert "rank_by" in caught.value.fields
    for by, drawing in drawings.items():
        assert drawing.ranking.rank_by == by
        scores = [entry.score for entry in drawing.ranking.entries]
        assert scores == sorted(scores, reverse=True)
        assert [p.candidate for p in drawing.pictures] == [e.candidate for e in drawing.ranking.entries]
    of = {
        easel.RANK_BY_CLIP: lambda p: p.clip_score,
        easel.RANK_BY_LIKELIHOOD: lambda p: p.log_likelihood / cells,
        easel.RANK_BY_CAPTION_GAIN: lambda p: (p.log_likelihood - p.unconditional_log_likelihood) / cells,
    }
    for by, score in of.items():
        assert [e.score for e in drawings[by].ranking.entries] == pytest.approx([score(p) for p in drawings[by].pictures], rel=1e-9)
    assert kept.pictures[0].candidate == drawings[easel.RANK_BY_LIKELIHOOD].pictures[0].candidate
    assert not plain.HasField("unconditional_log_likelihood") and plain.log_likelihood < 0


def test_words_that_were_not_taught_are_named(gateway):
    with easel.Client(gateway) as client:
        started = client.draw("a peguin, 2 zyzzyvas!", seed=1).started
    assert list(zip(started.unknown_words, started.nearest_words)) == [("peguin", "penguin"), ("zyzzyvas", "")]


def test_a_given_picture_keeps_its_rows(gateway):
    with easel.Client(gateway) as client:
        grid = client.package().grid
        given = client.draw("a red car on the beach", seed=5).pictures[0]
        drawing = client.draw("a red car on the beach", image=given.image.data, keep_rows=grid.rows // 2, seed=6)
    half = grid.rows // 2 * grid.columns
    assert drawing.started.given_tokens == half
    assert len(drawing.pictures[0].image_tokens) == grid.rows * grid.columns


def test_classify_and_embed(gateway):
    with easel.Client(gateway) as client:
        picture = client.draw("a red car on the beach", candidates=4, seed=1, keep=1).pictures[0]
        entries = client.classify(picture.image.data, ["a red car", "a green frog", "a blue house"])
        embedded = client.embed(["a red car"], [picture.image.data])
    assert abs(sum(e.probability for e in entries) - 1) < 1e-5
    assert [e.probability for e in entries] == sorted((e.probability for e in entries), reverse=True)
    for vector in (embedded.texts[0].values, embedded.images[0].values):
        assert abs(sum(v * v for v in vector) - 1) < 1e-4


def test_leaving_the_loop_cancels_in_every_stage(gateway):
    with easel.Client(gateway) as client, easel.Client(gateway) as other:
        began = time.monotonic()
        client.draw(PROMPT, candidates=32, seed=1)
        whole = time.monotonic() - began

        for event in client.generate(PROMPT, candidates=32, seed=1):
            if isinstance(event, easel.Progress):
                break
        left = time.monotonic()
        while any(stage.status.slots_in_use for stage in other.stages()):
            assert time.monotonic() - left < whole / 2, "the stages go on drawing for nobody"

        events = client.generate(PROMPT, candidates=32, seed=1)
        next(events)
        events.close()
        with pytest.raises(easel.Error) as caught:
            list(events)
        assert caught.value.code is grpc.StatusCode.CANCELLED


def test_errors_name_the_field(gateway):
    with easel.Client(gateway) as client:
        with pytest.raises(easel.Error) as caught:
            list(client.generate("", candidates=1))
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT and "prompt" in caught.value.fields
        with pytest.raises(easel.Error) as caught:
            list(client.generate(PROMPT, temperature=float("nan")))
        assert "parameters.temperature" in caught.value.fields
        assert client.draw(PROMPT).pictures


def test_the_deadline_is_kept(gateway):
    with easel.Client(gateway, timeout=0.2) as client:
        for call in (lambda: client.draw(PROMPT, candidates=64), lambda: client.draw(PROMPT, candidates=64, timeout=0.1)):
            with pytest.raises(easel.Error) as caught:
                call()
            assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert client.draw(PROMPT, timeout=60).pictures


def test_stages_are_seen(gateway):
    with easel.Client(gateway) as client:
        stages = {s.name: s for s in client.stages()}
    assert {"tokenizer", "sampler", "decoder", "ranker"} <= stages.keys()
    assert all(s.reachable and s.status.ready for s in stages.values())


def test_the_example_runs(gateway, tmp_path):
    command = [sys.executable, "clients/python/examples/generate.py", "a red car", "--gateway", gateway, "--candidates", "2", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "preview at" in result.stdout and len(list(tmp_path.glob("*.png"))) == 2
