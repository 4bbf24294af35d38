"""Which chains are possible, what their bundles are called, and where a budget counts."""

from collections import Counter
from collections.abc import Sequence

from ray_sft.bundle import Bundle
from ray_sft.compression.base import Pass, PassContext
from ray_sft.core import CompressionError

__all__ = ["check_passes", "meets_budget_from", "name_variants"]


def name_variants(passes: Sequence[Pass]) -> list[str]:
    """The folder of each pass's bundle: a kind's second one is ``distil_2``, and so on."""
    seen: Counter[str] = Counter()
    names = []
    for step in passes:
        seen[step.variant] += 1
        count = seen[step.variant]
        names.append(step.variant if count == 1 else f"{step.variant}_{count}")
    return names


def meets_budget_from(passes: Sequence[Pass]) -> list[bool]:
    """Whether each pass's bundle must keep the budget.

    One that a later pass on torch still changes need not, since it may be meant to be trained
    again; what training itself leaves must.
    """
    followers = [*passes[1:], None]
    return [
        step.trains or following is None or following.produces != "torch"
        for step, following in zip(passes, followers, strict=True)
    ]


def check_passes(passes: Sequence[Pass], source: Bundle, context: PassContext) -> None:
    """Raises CompressionError where a pass cannot work on what the one before it makes."""
    former, precision = source.manifest.format, source.manifest.properties.get("precision", "fp32")
    name = f"bundle '{source.path}'"
    for number, step in enumerate(passes):
        if source.is_encoder_decoder and not step.takes_encoder_decoders:
            raise CompressionError(
                f"{step.kind} cannot work on the encoder-decoder '{source.manifest.name}' yet. "
                "Take export_onnx and quantize_int8."
            )
        if step.consumes != former:
            raise CompressionError(
                f"{step.kind} needs a bundle in {step.consumes} format, but {name} is in {former} "
                "format. Order the passes as: those that prune and distil, export_onnx, then one "
                "quantize_... pass."
            )
        if precision != "fp32":
            raise CompressionError(
                f"{step.kind} needs fp32 weights, but {name} has {precision} weights already. "
                "Use one quantize_... pass."
            )
        _check_needs(step, source, context)
        if step.trains and any(earlier.changes_tokens for earlier in passes[:number]):
            raise CompressionError(
                f"{step.kind} learns from rows that the teacher reads, too, so they have to have "
                "the same tokens. Put prune_vocabulary behind it."
            )
        if step.trains and number == 0 and not step.brings_model:
            raise CompressionError(
                f"{step.kind} is the first pass, so student and teacher are the same model. Put a "
                "pass that makes it smaller, such as drop_layers, before it, or name a student."
            )
        if step.trains and (undone := [p.kind for p in passes[:number] if p.is_undone_by_training]):
            raise CompressionError(
                f"{step.kind} would take back what {undone[0]} did. Put {undone[0]} behind it."
            )
        if step.changes_tokens and any(earlier.changes_tokens for earlier in passes[:number]):
            raise CompressionError(
                f"{step.kind} stands twice, but the training rows that it counts are of the first "
                "tokenizer. Leave one out."
            )
        if step.brings_model and number:
            raise CompressionError(
                f"{step.kind} takes a student of its own, so what {passes[number - 1].kind} has "
                "made would be lost. Leave one of them out."
            )
        step.check(source)
        former, precision, name = step.produces, step.made_precision, f"the result of {step.kind}"


def _check_needs(step: Pass, source: Bundle, context: PassContext) -> None:
    if step.trains and context.retrain is None:
        raise CompressionError(f"{step.kind} trains, but nothing here can. Run it from a recipe.")
    if step.changes_tokens and context.encode_anew is None:
        raise CompressionError(
            f"{step.kind} changes the tokenizer, but nothing here can encode the rows anew. Run it "
            "from a recipe."
        )
    missing = [task for task in source.manifest.tasks if not context.examples.get(task)]
    if step.needs_examples and missing:
        raise CompressionError(
            f"{step.kind} looks at training rows, but task '{missing[0]}' has none here. "
            "Run it from a recipe."
        )
