"""Which device a decoder's graph was made for, and whether it is here.

A graph with paged attention runs nowhere but on CUDA: ONNX Runtime has no other kernel for it. So
what opens such a bundle asks here first, and says what is missing instead of failing inside.
"""

import os
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ray_sft.core import BundleError
from ray_sft.inference.runners import Device, read_decoder_settings

__all__ = ["check_device", "decoder_device", "import_genai", "missing_for_cuda"]

_CUDA_PACKAGE = "onnxruntime-genai-cuda"


def import_genai() -> Any:
    """The module onnxruntime_genai, which otherwise tells its makers of its use."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, by the import
    import onnxruntime_genai

    onnxruntime_genai.disable_telemetry_events()
    return onnxruntime_genai


def decoder_device(model_dir: Path) -> Device:
    """What the graph of a decoder in ``model_dir`` was exported for.

    Raises:
        BundleError: the folder holds no decoder graph of the export pass.
    """
    decoder = read_decoder_settings(model_dir)["decoder"]
    providers = decoder.get("session_options", {}).get("provider_options", [])
    return "cuda" if any("cuda" in provider for provider in providers) else "cpu"


def missing_for_cuda() -> str:
    """What keeps this host from running graphs for CUDA, and how to get it; nothing: empty."""
    genai = import_genai()
    if genai.__id__ != _CUDA_PACKAGE:
        return (
            f"the installed {genai.__id__} {genai.__version__} is built for processors. On a host "
            f"with a CUDA device, replace it: pip uninstall {genai.__id__} onnxruntime, then "
            f"pip install {_CUDA_PACKAGE}=={genai.__version__}."
        )
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return (
            f"onnxruntime {ort.__version__} is built for processors. Replace it: pip uninstall "
            f"onnxruntime, then pip install onnxruntime-gpu=={ort.__version__}."
        )
    if not genai.is_cuda_available():
        return (
            f"{_CUDA_PACKAGE} {genai.__version__} finds no CUDA. Install the driver and the CUDA "
            "libraries that it names, and check that nvidia-smi lists a device."
        )
    return ""


def check_device(model_dir: Path) -> Device:
    """The same as `decoder_device`, where it is here.

    Raises:
        BundleError: it is not, or the folder holds no decoder graph of the export pass.
    """
    device = decoder_device(model_dir)
    if device == "cuda" and (missing := missing_for_cuda()):
        raise BundleError(
            f"the graph in '{model_dir}' is for CUDA: {missing} Or make a bundle for processors: "
            "export_onnx with device: cpu."
        )
    return device
