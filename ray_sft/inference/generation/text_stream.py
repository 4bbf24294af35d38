"""From tokens to text that may be shown: whole characters only, and nothing past a stop string.

A token of a byte-level vocabulary may be part of a character, and a stop string may be spread
over several tokens; what could still change is held back until it cannot.
"""

from collections.abc import Sequence

from ray_sft.tasks import Processor

__all__ = ["TextStream"]

_BROKEN = "\ufffd"
"""What an unfinished or wrong UTF-8 sequence is decoded to."""


class TextStream:
    """Text of one reply as it grows; special tokens are left out."""

    def __init__(self, processor: Processor, *, stop: Sequence[str] = ()) -> None:
        """An empty reply that ends before the first of the ``stop`` strings."""
        self.stopped = False
        self._processor = processor
        self._stop = tuple(stop)
        self._tokens: list[int] = []
        # the window starts one clean step back: some decoders treat the first token differently
        self._window_start = 0
        self._clean_end = 0
        self._num_taken = 0
        self._held = ""

    def push(self, token: int) -> str:
        """The characters that ``token`` has made final; often fewer than it holds, or none."""
        assert not self.stopped
        self._tokens.append(token)
        window = self._decode(self._window_start, len(self._tokens))
        is_clean = not window.endswith(_BROKEN)
        # an unfinished character is at most the one replacement character at the end
        final = window if is_clean else window[:-1]
        fresh = final[self._num_taken :]
        self._num_taken = max(self._num_taken, len(final))
        if is_clean:
            self._window_start, self._clean_end = self._clean_end, len(self._tokens)
            self._num_taken = len(self._decode(self._window_start, self._clean_end))
        return self._release(fresh, at_end=False)

    def finish(self) -> str:
        """The rest, once no token follows; an unfinished character stays a replacement."""
        window = self._decode(self._window_start, len(self._tokens))
        return self._release(window[self._num_taken :], at_end=True)

    def _release(self, fresh: str, *, at_end: bool) -> str:
        text = self._held + fresh
        starts = [start for stop in self._stop if (start := text.find(stop)) >= 0]
        if starts:
            self.stopped, self._held = True, ""
            return text[: min(starts)]
        keep = 0 if at_end else max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _decode(self, start: int, end: int) -> str:
        text: str = self._processor.decode(
            self._tokens[start:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
