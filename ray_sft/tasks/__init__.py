"""What a model is asked to do: one file per task, all under the contract in `base`.

Example:
    >>> from ray_sft.tasks import SequenceClassification
    >>> SequenceClassification(labels=("bill", "card")).model_options()["num_labels"]
    2
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Encoded,
    Example,
    Head,
    Judgement,
    Loss,
    LossFn,
    Metrics,
    Outputs,
    Processor,
    Rejected,
    Row,
    Runner,
    Task,
    TensorBatch,
)
from ray_sft.tasks.causal_cloze_classification import CausalClozeClassification
from ray_sft.tasks.causal_language_model import CausalLanguageModel
from ray_sft.tasks.cloze_classification import ClozeClassification
from ray_sft.tasks.embedding import Embedding
from ray_sft.tasks.labelled_text import LabelledText
from ray_sft.tasks.masked_language_model import MaskedLanguageModel
from ray_sft.tasks.multi_label_classification import MultiLabelClassification
from ray_sft.tasks.partners import PARTNER, SHARE, collate_with_partners, draw_partner
from ray_sft.tasks.prompt_tokens import prompt_ids, prompt_tokens
from ray_sft.tasks.ranking import Ranking
from ray_sft.tasks.sentence_order import SentenceOrder
from ray_sft.tasks.sequence_classification import SequenceClassification
from ray_sft.tasks.single_label import SingleLabel
from ray_sft.tasks.token_classification import TokenClassification
from ray_sft.tasks.translation import Translation

__all__ = [
    "IGNORED",
    "PARTNER",
    "SHARE",
    "AnyTask",
    "Array",
    "Batch",
    "CausalClozeClassification",
    "CausalLanguageModel",
    "ClozeClassification",
    "Embedding",
    "Encoded",
    "Example",
    "Head",
    "Judgement",
    "LabelledText",
    "Loss",
    "LossFn",
    "MaskedLanguageModel",
    "Metrics",
    "MultiLabelClassification",
    "Outputs",
    "Processor",
    "Ranking",
    "Rejected",
    "Row",
    "Runner",
    "SentenceOrder",
    "SequenceClassification",
    "SingleLabel",
    "Task",
    "TensorBatch",
    "TokenClassification",
    "Translation",
    "collate_with_partners",
    "draw_partner",
    "prompt_ids",
    "prompt_tokens",
]

AnyTask: TypeAlias = Annotated[
    SequenceClassification
    | ClozeClassification
    | CausalClozeClassification
    | MultiLabelClassification
    | TokenClassification
    | Ranking
    | Embedding
    | MaskedLanguageModel
    | SentenceOrder
    | CausalLanguageModel
    | Translation,
    Field(discriminator="kind"),
]
"""Every task that a recipe may name, by its ``kind``."""
