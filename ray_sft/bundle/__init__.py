"""Bundles: immutable folders that hold one model and everything needed to serve it.

manifest.json   written last; names every file with its hash
model/          safetensors, or ONNX
processor/      tokenizer or feature extractor
samples.jsonl   requests with expected responses
README.md       model card
"""

from ray_sft.bundle.manifest import Experience, Format, Manifest
from ray_sft.bundle.reader import Bundle
from ray_sft.bundle.writer import BundleWriter

__all__ = ["Bundle", "BundleWriter", "Experience", "Format", "Manifest"]
