"""A tiny real instance of every member of our unions, for the laws in tests/contract.

One function for each member; `TASKS`, `PASSES` name them. A member without a factory fails the
contract tests by its name.
"""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
)

from ray_sft.compression import (
    AnyPass,
    Distil,
    DropLayers,
    ExportOnnx,
    HalfPrecision,
    LowRank,
    Pass,
    PruneFeedForward,
    PruneHeads,
    PruneVocabulary,
    QuantizeInt4,
    QuantizeInt8,
    QuantizeStatic,
    Sparsify,
)
from ray_sft.data.augment import (
    Augmentation,
    BackTranslation,
    CharacterNoise,
    ContextualReplacement,
    Cutoff,
    Eda,
    Paraphrase,
    SurfaceNoise,
    TemplateFilling,
)
from ray_sft.models import (
    Adapter,
    Dora,
    HeadedEncoder,
    HeadView,
    Ia3,
    Lora,
    PromptTuning,
    RsLora,
    train_tokenizer,
    train_wordpiece,
)
from ray_sft.objectives import (
    AnyObjective,
    EmbeddingMixup,
    Fgm,
    FocalLoss,
    FreeLb,
    LabelSmoothing,
    Neftune,
    Objective,
    Pgd,
    RDrop,
)
from ray_sft.tasks import (
    AnyTask,
    CausalClozeClassification,
    CausalLanguageModel,
    ClozeClassification,
    Embedding,
    MaskedLanguageModel,
    MultiLabelClassification,
    Processor,
    Ranking,
    Row,
    SentenceOrder,
    SequenceClassification,
    Task,
    TokenClassification,
    Translation,
)
from tests.chat_endpoint import serving_chat

TEXTS = (
    "Where is my parcel? It was due on Monday 12 May.",
    "I want a refund.",
    "My card was declined twice in the shop today, please help me with it.",
    "转账还没有到账，请帮我查一下。",
    "Thanks, that solved it! \U0001f600",
    "Close my account",
)
LABELS = ("account", "card", "parcel", "refund", "thanks", "transfer")


@dataclass(frozen=True, slots=True)
class TaskCase:
    """A task with rows of different lengths and a model that can be trained on them."""

    task: Task
    rows: tuple[Row, ...]
    """With labels."""
    unlabelled: tuple[Row, ...]
    """As a service gets them; empty where the task has no such thing."""
    model: torch.nn.Module
    processor: Processor


@cache
def tiny_processor() -> Processor:
    return train_tokenizer(TEXTS * 20, vocab_size=420)


def tiny_encoder_config(num_labels: int) -> BertConfig:
    return BertConfig(
        vocab_size=len(tiny_processor()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=num_labels,
        initializer_range=0.3,  # far from flat, so that a wrong token shows in the loss
        pad_token_id=tiny_processor().pad_token_id,
    )


def tiny_encoder(num_labels: int) -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(tiny_encoder_config(num_labels)).eval()


def tiny_tagger(num_labels: int) -> BertForTokenClassification:
    torch.manual_seed(0)
    return BertForTokenClassification(tiny_encoder_config(num_labels)).eval()


def tiny_decoder(*, attention: str = "sdpa") -> LlamaForCausalLM:
    torch.manual_seed(0)
    processor = tiny_processor()
    config = LlamaConfig(
        vocab_size=len(processor),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=processor.bos_token_id,
        eos_token_id=processor.eos_token_id,
        pad_token_id=processor.pad_token_id,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval()


def conversation(*turns: str, system: str = "") -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def sequence_classification() -> TaskCase:
    return TaskCase(
        task=SequenceClassification(labels=LABELS, max_length=64),
        rows=tuple(
            {"text": text, "label": label}
            for text, label in zip(
                TEXTS,
                ("parcel", "refund", "card", "transfer", "thanks", "account"),
                strict=True,
            )
        ),
        unlabelled=tuple({"text": text} for text in TEXTS),
        model=tiny_encoder(len(LABELS)),
        processor=tiny_processor(),
    )


def multi_label_classification() -> TaskCase:
    labels = (["parcel"], ["refund", "card"], ["card"], ["transfer", "account"], [], ["account"])
    return TaskCase(
        task=MultiLabelClassification(labels=LABELS, max_length=64),
        rows=tuple(
            {"text": text, "labels": names} for text, names in zip(TEXTS, labels, strict=True)
        ),
        unlabelled=tuple({"text": text} for text in TEXTS),
        model=tiny_encoder(len(LABELS)),
        processor=tiny_processor(),
    )


TAGGED = (
    "My/O parcel/B-thing left/O New/B-place York/I-place on/O Monday/B-day Tuesday/B-day ./O",
    "refund/O Anna/B-person",
    "转/O 账/B-thing 没/O 到/O 上/B-place 海/I-place 。/O",
)
ENTITIES = ("day", "person", "place", "thing")


def tagged(sentence: str) -> dict[str, Any]:
    """The row that "word/tag word/tag" means."""
    pairs = [pair.rsplit("/", 1) for pair in sentence.split(" ")]
    return {"tokens": [word for word, _ in pairs], "tags": [tag for _, tag in pairs]}


def token_classification() -> TaskCase:
    rows = tuple(tagged(sentence) for sentence in TAGGED)
    return TaskCase(
        task=TokenClassification(labels=ENTITIES, max_length=64),
        rows=rows,
        unlabelled=(
            *({"text": text} for text in TEXTS),
            *({"tokens": row["tokens"]} for row in rows),
        ),
        model=tiny_tagger(1 + 2 * len(ENTITIES)),
        processor=tiny_processor(),
    )


def causal_language_model() -> TaskCase:
    rows = (
        conversation(TEXTS[0], "Let me look.", TEXTS[1], "It is on its way."),
        conversation(TEXTS[3], "好的。", system="Be brief."),
        conversation(TEXTS[5], "Done."),
        conversation(TEXTS[2], "I am sorry to hear that. Which card is it, and which shop?"),
    )
    return TaskCase(
        task=CausalLanguageModel(max_length=256),
        rows=rows,
        unlabelled=(),
        model=tiny_decoder(),
        processor=tiny_processor(),
    )


@cache
def tiny_wordpiece() -> Processor:
    return train_wordpiece(TEXTS * 20, vocab_size=300)


def masked_language_model() -> TaskCase:
    torch.manual_seed(0)
    processor = tiny_wordpiece()
    config = tiny_encoder_config(2)
    config.vocab_size = len(processor)
    return TaskCase(
        task=MaskedLanguageModel(max_length=64, mask_rate=0.3),
        rows=tuple({"text": text} for text in TEXTS),
        unlabelled=(),
        model=BertForMaskedLM(config).eval(),
        processor=processor,
    )


def cloze_classification() -> TaskCase:
    case, rows = masked_language_model(), sequence_classification().rows
    return TaskCase(
        task=ClozeClassification(labels=LABELS, words={"thanks": "thank you"}, max_length=64),
        rows=rows,
        unlabelled=tuple({"text": text} for text in TEXTS),
        model=case.model,
        processor=case.processor,
    )


def causal_cloze_classification() -> TaskCase:
    case = causal_language_model()
    return TaskCase(
        task=CausalClozeClassification(labels=LABELS, words={"thanks": "thank you"}, max_length=64),
        rows=sequence_classification().rows,
        unlabelled=tuple({"text": text} for text in TEXTS),
        model=case.model,
        processor=case.processor,
    )


def sentence_order() -> TaskCase:
    texts = (f"{TEXTS[0]} {TEXTS[1]}", f"{TEXTS[1]} {TEXTS[2]}", f"{TEXTS[3]}谢谢。", TEXTS[0])
    return TaskCase(
        task=SentenceOrder(max_length=64),
        rows=tuple({"text": text} for text in texts),
        unlabelled=(),
        model=tiny_encoder(2),
        processor=tiny_processor(),
    )


def tiny_headed(tasks: Mapping[str, Task]) -> HeadedEncoder:
    torch.manual_seed(0)
    return HeadedEncoder(BertModel(tiny_encoder_config(2)), tasks).eval()


def ranking() -> TaskCase:
    offers = tuple(
        {"history": list(TEXTS[:count]), "candidate": TEXTS[-1 - count]} for count in range(4)
    )
    task = Ranking(max_length=96, max_history=2)
    return TaskCase(
        task=task,
        rows=tuple(row | {"label": index % 2} for index, row in enumerate(offers)),
        unlabelled=offers,
        model=HeadView(tiny_headed({"click": task}), "click").eval(),
        processor=tiny_processor(),
    )


def embedding() -> TaskCase:
    task = Embedding(max_length=64, temperature=0.5)
    triples = (
        {"text": TEXTS[0], "positive": TEXTS[5], "negatives": [TEXTS[1], TEXTS[2]]},
        {"text": TEXTS[1], "positive": TEXTS[4], "negatives": TEXTS[3]},
        {"text": TEXTS[3], "positive": TEXTS[0], "negatives": [TEXTS[5], TEXTS[4], TEXTS[2]]},
    )
    return TaskCase(
        task=task,
        rows=triples,
        unlabelled=tuple({"text": text} for text in TEXTS),
        model=HeadView(tiny_headed({"vector": task}), "vector").eval(),
        processor=tiny_processor(),
    )


def tiny_translator(*, init_std: float = 0.3) -> MarianMTModel:
    torch.manual_seed(0)
    processor = tiny_processor()
    config = MarianConfig(
        vocab_size=len(processor),
        decoder_vocab_size=len(processor),
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=256,
        init_std=init_std,
        pad_token_id=processor.pad_token_id,
        bos_token_id=processor.bos_token_id,
        eos_token_id=processor.eos_token_id,
        decoder_start_token_id=processor.bos_token_id,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config).eval()


def translation() -> TaskCase:
    pairs = zip(TEXTS, reversed(TEXTS), strict=True)
    return TaskCase(
        task=Translation(max_length=128),
        rows=tuple({"text": text, "translation": other} for text, other in pairs),
        unlabelled=tuple({"text": text} for text in TEXTS),
        model=tiny_translator(),
        processor=tiny_processor(),
    )


TASKS: dict[type[Task], Callable[[], TaskCase]] = {
    SequenceClassification: sequence_classification,
    ClozeClassification: cloze_classification,
    CausalClozeClassification: causal_cloze_classification,
    MultiLabelClassification: multi_label_classification,
    TokenClassification: token_classification,
    Ranking: ranking,
    Embedding: embedding,
    MaskedLanguageModel: masked_language_model,
    SentenceOrder: sentence_order,
    CausalLanguageModel: causal_language_model,
    Translation: translation,
}

PASSES: dict[type[Pass], Callable[[], Pass]] = {
    DropLayers: lambda: DropLayers(keep=1),
    LowRank: LowRank,
    PruneFeedForward: PruneFeedForward,
    PruneHeads: PruneHeads,
    PruneVocabulary: PruneVocabulary,
    Sparsify: Sparsify,
    Distil: Distil,
    HalfPrecision: HalfPrecision,
    ExportOnnx: ExportOnnx,
    QuantizeInt8: QuantizeInt8,
    QuantizeStatic: QuantizeStatic,
    QuantizeInt4: QuantizeInt4,
}

OBJECTIVES: dict[type[Objective], Callable[[], Objective]] = {
    RDrop: lambda: RDrop(alpha=0.8),
    Fgm: lambda: Fgm(epsilon=0.5, weight=0.7),
    Pgd: lambda: Pgd(epsilon=0.5, step_size=0.2, weight=0.7),
    FreeLb: lambda: FreeLb(epsilon=0.5, step_size=0.4),
    Neftune: lambda: Neftune(alpha=5.0),
    LabelSmoothing: lambda: LabelSmoothing(epsilon=0.2),
    FocalLoss: lambda: FocalLoss(gamma=2.0),
    EmbeddingMixup: lambda: EmbeddingMixup(alpha=0.4, weight=0.7),
}

ADAPTERS: dict[type[Adapter], Callable[[], Adapter]] = {
    Lora: lambda: Lora(rank=4, alpha=8),
    RsLora: lambda: RsLora(rank=4, alpha=8),
    Dora: lambda: Dora(rank=4, alpha=8),
    Ia3: Ia3,
    PromptTuning: lambda: PromptTuning(num_tokens=6),
}

CHINESE_TEXT = "\u60a8\u597d\uff0c\u8bf7\u5e2e\u6211\u67e5\u8be2\u8d26\u6237\u4f59\u989d"


@cache
def tiny_masked_model() -> Path:
    """A folder with a masked language model that has learned nothing."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-masked-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    processor = train_wordpiece((*TEXTS, CHINESE_TEXT) * 20, vocab_size=320)
    processor.save_pretrained(folder)
    config = tiny_encoder_config(num_labels=2)
    config.vocab_size = len(processor)
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@cache
def tiny_translation_model() -> Path:
    """A folder with an encoder-decoder that has learned nothing."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-translator-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_processor().save_pretrained(folder)
    model = tiny_translator(init_std=0.02)  # nearly all tokens are as likely as each other
    model.final_logits_bias[0, tiny_processor().eos_token_id] = 1.0  # or it would write for ever
    model.save_pretrained(folder)
    return folder


@cache
def chat_address() -> str:
    """Of a chat model that runs as long as this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(serving_chat()).url


@cache
def paraphrases_file() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="paraphrases-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "paraphrases.db"


def paraphrase() -> Paraphrase:
    return Paraphrase(model="chat", endpoint=chat_address(), cache=str(paraphrases_file()))


SLOTS = {
    "thing": ("parcel", "refund", "card", "bill", "\u8d26\u6237", "\u4fe1\u7528\u5361"),
    "PER": ("Ann", "Ann Lee", "\u738b\u82b3"),
    "ORG": ("Ltd", "Mill & Sons Ltd.", "\u94f6\u884c"),
}
AUGMENTATIONS: dict[type[Augmentation], Callable[[], Augmentation]] = {
    BackTranslation: lambda: BackTranslation(
        there=str(tiny_translation_model()), back=str(tiny_translation_model())
    ),
    CharacterNoise: CharacterNoise,
    ContextualReplacement: lambda: ContextualReplacement(model=str(tiny_masked_model())),
    Cutoff: Cutoff,
    Eda: Eda,
    Paraphrase: paraphrase,
    SurfaceNoise: SurfaceNoise,
    TemplateFilling: lambda: TemplateFilling(slots=SLOTS),
}


def members(union: Any) -> tuple[type, ...]:
    """The classes of a tagged union such as `AnyTask`."""
    return get_args(get_args(union)[0])


TASK_TYPES: tuple[type[Task], ...] = members(AnyTask)
PASS_TYPES: tuple[type[Pass], ...] = members(AnyPass)
OBJECTIVE_TYPES: tuple[type[Objective], ...] = members(AnyObjective)
