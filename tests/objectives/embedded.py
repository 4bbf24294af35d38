"""Models that are given what their embedding would have returned, and what they are given."""

import torch

from tests.factories import TASKS


def tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def batch_of(case):
    return tensors(case.task.collate(case.task.encode(case.rows, case.processor), case.processor))


def plain_loss(case):
    return lambda batch: case.task.loss(case.model, batch)


class Inputs:
    """Stands for a model that is given what its embedding would have returned."""

    def __init__(self, model, embedded):
        self.model, self.embedded = model, embedded

    def __call__(self, *, input_ids, **inputs):
        del input_ids
        return self.model(inputs_embeds=self.embedded, **inputs)


STOCK = [kind for kind in TASKS if kind.head not in ("embedding", "matching", "seq2seq_lm")]
"""Tasks of models that also take ``inputs_embeds``; an encoder-decoder has two, see below."""


def embedded_inputs(model, run):
    """What the embedding hands on in each pass of ``run``, perturbations included."""
    seen = []
    step = next(
        m for m in model.modules() if type(m).__name__ in ("LlamaDecoderLayer", "LayerNorm")
    )
    with step.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach())):
        run()
    return seen


def lengths_of(vectors):
    """The length of each row's vectors taken together, (batch, 1, 1)."""
    return vectors.flatten(1).norm(dim=1)[:, None, None]
