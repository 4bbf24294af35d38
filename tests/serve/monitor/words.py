"""A model that looks for words: the same answer for the same text, in any process."""

from collections.abc import Sequence

from ray_sft.core import ServeError
from serve.monitor.opinion import Opinion


async def read_words(texts: Sequence[str]) -> list[Opinion | ServeError]:
    """The opinion on each text, as the service's model would be asked."""
    return [read_word(text) for text in texts]


def read_word(text: str) -> Opinion | ServeError:
    """Feels by the words fell and rose; the topic is the first word."""
    if "unreadable" in text:
        return ServeError("the model failed on this text.")
    main = "negative" if "fell" in text else "positive" if "rose" in text else "neutral"
    rest = 0.1 + 0.001 * (len(text) % 50)
    sentiment = dict.fromkeys(("negative", "neutral", "positive"), rest / 2)
    sentiment[main] = 1.0 - rest
    return Opinion(text.split()[0], 0.9, sentiment)
