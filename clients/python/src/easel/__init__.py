"""A client for Easel, the gRPC suite that serves text-to-image models."""

from .client import Client, Drawing, Generation, extension, save
from .errors import Error
from .v1.gateway_pb2 import (
    EncodedImage,
    GenerateRequest,
    GenerateResponse,
    ImageFormat,
    IMAGE_FORMAT_JPEG,
    IMAGE_FORMAT_PNG,
    IMAGE_FORMAT_RAW,
    IMAGE_FORMAT_WEBP,
    RANK_BY_BOTH,
    RANK_BY_CAPTION_GAIN,
    RANK_BY_CLIP,
    RANK_BY_LIKELIHOOD,
    RankBy,
)
from .v1.types_pb2 import Package, SamplingParameters

Queued = GenerateResponse.Queued
Started = GenerateResponse.Started
Progress = GenerateResponse.Progress
Preview = GenerateResponse.Preview
GeneratedPicture = GenerateResponse.GeneratedPicture
Ranking = GenerateResponse.Ranking
Finished = GenerateResponse.Finished

__all__ = [
    "Client", "Drawing", "EncodedImage", "Error", "Finished", "GenerateRequest", "GeneratedPicture", "Generation", "IMAGE_FORMAT_JPEG",
    "IMAGE_FORMAT_PNG", "IMAGE_FORMAT_RAW", "IMAGE_FORMAT_WEBP", "ImageFormat", "Package", "Preview", "Progress", "Queued", "RANK_BY_BOTH",
    "RANK_BY_CAPTION_GAIN", "RANK_BY_CLIP", "RANK_BY_LIKELIHOOD", "RankBy", "Ranking", "SamplingParameters", "Started", "extension", "save",
]
