"""ray-sft: fine-tune a small open model on your own text, shrink it, and serve it."""

__version__ = "0.1.0"

__all__ = ["__version__"]
