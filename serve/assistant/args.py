"""What an assistant is started with."""

from pydantic import Field

from ray_sft.core import Config
from serve.assistant.language import Language

__all__ = ["AssistantArgs", "Thresholds"]


class Thresholds(Config):
    """How sure is sure enough. A higher value answers less often and errs less often."""

    approved_similarity: float = Field(ge=0.0, le=1.0)
    """Least similarity of the question to a phrasing of an approved answer for it to be given."""
    approved_margin: float = Field(ge=0.0, le=1.0)
    """Least lead of that similarity over the most similar phrasing of any other answer; without
    it the question is between two answers, and neither is given as the one."""
    evidence: float = Field(ge=0.0, le=1.0)
    """Least evidence of a passage to be cited, see `serve.assistant.decide`; where none has it the
    assistant says that it does not know."""


class AssistantArgs(Config):
    """Everything that shapes an assistant but its models."""

    embedding_model: str = Field(min_length=1)
    """Name of the service's model that turns questions and passages into vectors."""
    intent_model: str = ""
    """Name of the service's classifier that names a question's intent; empty: none."""
    knowledge: str = Field(default="knowledge.lance", min_length=1)
    """Folder of the knowledge, or any address that LanceDB opens (s3://bucket/folder)."""
    rebuild: bool = False
    """Whether knowledge that was indexed with another embedding model is embedded again at start
    instead of being refused. A rebuild that is interrupted goes on at the next start."""
    embedding_languages: tuple[Language, ...] = ("en",)
    """Languages that the embedding model knows; others are searched by their words alone. Name no
    language that it does not know: MiniLM, which is English, finds any two Chinese sentences 0.6
    to 0.9 similar, and the most similar question is the right one in 13 of 100."""
    dense: Thresholds = Thresholds(approved_similarity=0.65, approved_margin=0.07, evidence=0.45)
    """For questions in a language that the embedding model knows; similarities are cosines.
    Chosen with MiniLM: of approved answers given, 99 of 100 are right for the shop of the samples,
    and 95 of 100 for medical questions whose subjects differ by a word (MedQuAD)."""
    lexical: Thresholds = Thresholds(approved_similarity=0.6, approved_margin=0.15, evidence=0.35)
    """For questions in other languages; similarities are shares of common terms. Sure rather than
    often: a Chinese question that shares few characters with a phrasing is not answered."""
    passage_words: int = Field(default=120, ge=20, le=400)
    """Length of the passages that documents are cut into; 1.5 times as many words must fit into
    the embedding model. Changing it embeds a document again when it is next sent."""
    suggestion_similarity: float = Field(default=0.5, ge=0.0, le=1.0)
    """Least similarity of a question that is suggested along with an answer."""
    unknown_answer_en: str = Field(
        default="I have no answer to that. Please put it in other words, or ask for a person.",
        min_length=1,
    )
    """What is said to an English question where nothing is known; never improvised."""
    unknown_answer_zh: str = Field(
        # "I have no answer to this at the moment. Please rephrase, or contact customer service."
        default="\u6211\u6682\u65f6\u65e0\u6cd5\u56de\u7b54\u8fd9\u4e2a\u95ee\u9898\u3002"
        "\u8bf7\u6362\u4e00\u79cd\u95ee\u6cd5\uff0c"
        "\u6216\u8054\u7cfb\u4eba\u5de5\u5ba2\u670d\u3002",
        min_length=1,
    )
    """What is said to a Chinese question where nothing is known."""

    def unknown_answer(self, language: Language) -> str:
        """What is said to a question in ``language`` where nothing is known."""
        return self.unknown_answer_zh if language == "zh" else self.unknown_answer_en
