"""A client that has only reflection, and no file of ours, sees a picture appear."""

import io

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image


def test_generate_by_reflection_alone(gateway):
    with grpc.insecure_channel(gateway) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "easel.v1.GatewayService" in database.get_services()
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("easel.v1.GatewayService").FindMethodByName("Generate")
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_stream(
            "/easel.v1.GatewayService/Generate",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        candidates = 16
        events = list(call(request(prompt="a red car on the beach", candidates=candidates, seed=21), timeout=120))

    kinds = [e.WhichOneof("event") for e in events]
    assert kinds[0] in ("queued", "started") and "started" in kinds
    assert kinds[-2:] == ["ranking", "finished"]
    for candidate in range(candidates):
        mine = [e for e in events if getattr(e, e.WhichOneof("event")).DESCRIPTOR.fields_by_name.get("candidate")]
        mine = [e for e in mine if getattr(e, e.WhichOneof("event")).candidate == candidate]
        assert any(e.WhichOneof("event") == "progress" for e in mine)
        previews = [e.preview for e in mine if e.WhichOneof("event") == "preview"]
        assert len(previews) >= 3
        drawn = [undrawn_share(p.image.data) for p in previews]
        assert drawn == sorted(drawn, reverse=True) and drawn[0] > drawn[-1], "previews grow"
        assert sum(e.WhichOneof("event") == "picture" for e in mine) == 1
    scores = [entry.clip_score for entry in events[-2].ranking.entries]
    assert len(scores) == candidates and scores == sorted(scores, reverse=True)


def undrawn_share(data: bytes) -> float:
    """How much of the bottom of a preview is one flat colour: whole pixel rows equal to the last pixel."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = picture.size
    last = picture.getpixel((width - 1, height - 1))
    flat = 0
    for y in reversed(range(height)):
        if picture.crop((0, y, width, y + 1)).getcolors(2) != [(width, last)]:
            break
        flat += 1
    return flat / height
