"""The Open Inference Protocol, which clients of KServe and Triton speak."""

from serve.endpoints.inference_protocol.routes import inference_protocol_router

__all__ = ["inference_protocol_router"]
