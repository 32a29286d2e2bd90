"""The recipe from its first stage to a served package, with tiny.toml: what it learns falls, what is stopped goes on, and what is served
gives the numbers of the recipe's own code."""

import pathlib
import sys
import tarfile
import tomllib

import numpy as np
import pytest
import torch
from easel.v1 import decoder_pb2, decoder_pb2_grpc, ranker_pb2, ranker_pb2_grpc, sampler_pb2, sampler_pb2_grpc, types_pb2
from PIL import Image

from harness import CONFIG, easel, needs_font, read_tensors, reports, rows, run, run_all, service, start, stop

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import recipe.average
import recipe.layout
import recipe.package
from recipe import clip, dvae, transformer
from recipe.canvas import use_config
from recipe.parallel import Replicas

pytestmark = needs_font


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder in which each stage is run once, in the order of the tests."""
    return tmp_path_factory.mktemp("recipe")


@pytest.fixture
def config():
    with open(CONFIG, "rb") as file:
        return tomllib.load(file)


@pytest.fixture(scope="module")
def package(work):
    """The exported checkpoint as a package whose weights are those of the checkpoint to the bit."""
    easel("import", work / "checkpoint", "--out", work / "exact", "--weights", "f32")
    return work / "exact"


@pytest.fixture(scope="module")
def golden(work):
    return read_tensors(work / "checkpoint" / "golden.safetensors")[0]


def falls(output, *names):
    """Each number is lower at the last two reports than at the first."""
    first, *_, last, end = reports(output)
    for name in names:
        assert (last[name] + end[name]) / 2 < first[name], f"{name}\n{output}"


def test_the_text_gives_two_vocabularies_and_the_words(work):
    run("text", work)
    words = (work / "words.txt").read_text().split()
    assert words == sorted(words) and {"armchair", "avocado", "sketch"} <= set(words)
    assert (work / "tokenizer.json").exists() and (work / "ranker_tokenizer.json").exists()


def test_codes_are_learnt(work):
    output = run("codes", work)
    falls(output, "loss")
    assert reports(output)[-1]["bits"] > 1, output


def test_the_transformer_learns_and_goes_on_where_it_was_stopped(work):
    process, first = start("transformer", work), []
    for line in process.stdout:
        if first := reports(line):
            break
    stop(process)
    assert first, "it ended without a report"
    output = run("transformer", work)
    assert f"goes on from step {first[0]['step']}," in output
    assert reports(output)[-1]["step"] > first[0]["step"]
    falls(line + output, "train", "check", "held", "text")


def test_the_decoder_and_the_ranker_learn(work):
    falls(run("decoder", work), "loss")
    run("drawn", work)
    falls(run("clip", work), "loss")
    falls(run("layout", work), "loss", "seen", "held")


def test_samples_are_judged_and_shown(work):
    output = run("judge", work)
    assert "all right" in output
    run("sheet", work)
    assert Image.open(work / "sheet.png").size[0] > 12 * 128


def test_the_export_is_a_package_that_draws(work):
    run("export", work)
    easel("import", work / "checkpoint", "--out", work / "package")
    easel("package", "check", work / "package")
    easel("generate", "a red car on the beach", "--package", work / "package", "--candidates", "2", "--seed", "1", "--out", work / "drawn", "--no-preview")
    pictures = list((work / "drawn").glob("*-seed*.png"))
    assert [Image.open(picture).size for picture in pictures] == [(128, 128)] * 2


def test_training_goes_on_from_a_package(work, config, package, tmp_path):
    recipe.package.start(config, tmp_path, package)
    rows, images = torch.arange(24)[None], torch.arange(64)[None] % 200
    expected, found = (transformer.load(config, each)[0](rows, images)[1] for each in (work, tmp_path))
    assert torch.allclose(expected, found, atol=1e-3)
    codes = torch.arange(128).view(2, 8, 8) % 200
    painted = [dvae.load_codes(config, each).decoder(codes) for each in (work, tmp_path)]
    assert torch.allclose(*painted, atol=1e-3)
    size = config["clip"]["image_size"]
    pictures = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    rankings = [clip.scores(*clip.load(config, each), pictures, ["a red car", "two green frogs"], size) for each in (work, tmp_path)]
    assert torch.allclose(*rankings, atol=1e-3)
    assert torch.isclose(*(clip.load(config, each)[0].logit_scale for each in (work, tmp_path)), atol=1e-3)


def test_a_ranker_goes_on_with_other_pieces_of_a_picture_and_more_blocks(work, config, package, tmp_path):
    before, text = clip.load(config, work)
    side = config["clip"]["patch"] // 2
    config["clip"]["patch"], config["clip"]["text_layers"] = side, config["clip"]["text_layers"] + 1
    recipe.package.start(config, tmp_path, package)
    after, _ = clip.load(config, tmp_path)
    pieces = torch.randn(5, 3, side, side)
    enlarged = torch.nn.functional.interpolate(pieces, scale_factor=2, mode="bilinear")
    assert torch.allclose(after.visual.conv1(pieces), before.visual.conv1(enlarged), atol=1e-3)
    finer = after.visual.positional_embedding[1:].view(4, 2, 4, 2, -1).mean((1, 3)).flatten(0, 1)
    assert torch.cosine_similarity(finer, before.visual.positional_embedding[1:]).min() > 0.8
    tokens = torch.from_numpy(text(["a red car", "two green frogs"]))
    assert torch.allclose(after.encode_text(tokens), before.encode_text(tokens), atol=1e-3)


def test_a_layout_of_a_package_keeps_what_the_ranker_learnt_since(work, config, package, tmp_path):
    recipe.package.start(config, tmp_path, package)
    kept = torch.load(tmp_path / "clip.pt")
    kept["model"]["visual.proj"] += 1
    torch.save(kept, tmp_path / "clip.pt")
    config["layout"]["train"]["steps"] = 1
    config["layout"]["train"]["store"] = 8
    use_config(config)
    recipe.layout.train(config, tmp_path, Replicas())
    after, expected = clip.load(config, tmp_path)[0].state_dict(), torch.load(work / "layout.pt")["model"]
    assert torch.equal(after["visual.proj"], kept["model"]["visual.proj"])
    assert torch.allclose(after["visual.layout.weight"], expected["visual.layout.weight"], atol=1e-3)


def test_the_mean_of_samplers_is_a_sampler(work, config, tmp_path):
    state = torch.load(work / "transformer.pt")
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "tokenizer.json").write_bytes((work / "tokenizer.json").read_bytes())
    torch.save({**state, "model": {name: tensor + 2 for name, tensor in state["model"].items()}}, moved / "transformer.pt")
    recipe.average.average(tmp_path / "mean", [work, moved])
    mean, _ = transformer.load(config, tmp_path / "mean")
    for name, tensor in mean.state_dict().items():
        assert torch.allclose(tensor, state["model"][name] + 1, atol=1e-5), name


def test_all_stages_are_run_within_a_time_and_what_is_there_is_packed(work, tmp_path):
    assert "call it again" in run_all(work, tmp_path / "stopped", minutes=0.85, status=75)
    kept = tarfile.open(tmp_path / "stopped" / "kept.tar.00").getnames()
    assert {"tokenizer.json", "transformer.pt", "drawn.pt"} <= set(kept)
    for stage in ("text", "codes", "transformer", "decoder", "drawn", "clip", "layout"):
        (work / f"{stage}.done").touch()
    assert "everything is done" in run_all(work, tmp_path / "done", minutes=10, status=0)
    kept = tarfile.open(tmp_path / "done" / "kept.tar.00").getnames()
    assert {"checkpoint/config.json", "checkpoint/transformer.safetensors"} <= set(kept)


def test_the_served_encoder_gives_the_recipes_tokens(package, golden):
    (_, height, width, _), _ = golden["scene_pixels"]
    with service("decoder", package) as channel:
        stub = decoder_pb2_grpc.DecoderServiceStub(channel)
        for pixels, tokens in zip(rows(golden["scene_pixels"]), rows(golden["scene_tokens"])):
            picture = types_pb2.Picture(width=width, height=height, rgb8=bytes(pixels))
            assert list(stub.Encode(decoder_pb2.EncodeRequest(picture=picture)).tokens) == tokens


def test_the_served_decoder_paints_the_recipes_pixels(package, golden):
    with service("decoder", package) as channel:
        stub = decoder_pb2_grpc.DecoderServiceStub(channel)
        for tokens, expected in zip(rows(golden["greedy_tokens"]), rows(golden["greedy_pixels"])):
            requests = (
                decoder_pb2.DecodeRequest(header=decoder_pb2.DecodeRequest.Header(candidates=[0])),
                decoder_pb2.DecodeRequest(chunk=types_pb2.TokenChunk(candidate=0, start=0, tokens=tokens)))
            (answer,) = stub.Decode(iter(requests))
            painted = answer.finished.picture.rgb8
            assert max(abs(a - b) for a, b in zip(painted, expected, strict=True)) <= 1


def test_the_served_sampler_draws_the_recipes_tokens(package, golden):
    pads = max(max(row) for row in rows(golden["text_tokens"])) - golden["text_tokens"][0][1] + 1
    greedy = types_pb2.SamplingParameters(temperature=0, guidance_scale=1)
    with service("sampler", package) as channel:
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)
        for text, expected in zip(rows(golden["text_tokens"]), rows(golden["greedy_tokens"])):
            request = sampler_pb2.SampleRequest(
                text_tokens=[token for token in text if token < pads], candidates=[{"id": 0, "seed": 0}], parameters=greedy)
            drawn = [token for answer in stub.Sample(request) for token in answer.chunk.tokens]
            assert drawn == expected


def test_the_served_ranker_gives_the_recipes_scores(package, golden):
    (_, height, width, _), _ = golden["scene_pixels"]
    pairs = zip(rows(golden["clip_image_embeddings"]), rows(golden["clip_text_embeddings"]))
    expected = [sum(a * b for a, b in zip(*pair)) for pair in pairs]
    with service("ranker", package) as channel:
        stub = ranker_pb2_grpc.RankerServiceStub(channel)
        for pixels, text, score in zip(rows(golden["scene_pixels"]), rows(golden["clip_text_tokens"]), expected):
            caption = types_pb2.TextTokens(ids=text[: text.index(max(text)) + 1])
            picture = types_pb2.Picture(width=width, height=height, rgb8=bytes(pixels))
            requests = (
                ranker_pb2.RankRequest(header=ranker_pb2.RankRequest.Header(caption=caption)),
                ranker_pb2.RankRequest(candidate=ranker_pb2.RankRequest.Candidate(id=0, picture=picture)))
            (answer,) = stub.Rank(iter(requests))
            assert abs(answer.clip_score - score) < 1e-4
