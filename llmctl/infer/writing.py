"""One text being written: tokens in, text out as soon as it is sure, until something ends it.

Knows nothing of models or batches.
"""

from collections.abc import Sequence
from typing import Literal

from llmctl.data.tokenizer import TextStream

FinishReason = Literal["stop", "length"]


class StopStrings:
    """Text in, piece by piece; out comes what no longer can be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.is_found = False

    def add(self, piece: str) -> str:
        """The text that is sure; where a stop string is complete, what stands before it.

        The one that is complete first counts, so it does not matter how the text was cut.
        """
        text = self._held + piece
        starts = ((text.find(stop), len(stop)) for stop in self._stops)
        found = [(start + length, start) for start, length in starts if start >= 0]
        if found:
            self.is_found, self._held = True, ""
            return text[: min(found)[1]]
        sure = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[sure:]
        return text[:sure]

    def finish(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


class Writing:
    """What follows one prompt: `take` each token until there is a `finish_reason`."""

    def __init__(self, stream: TextStream, stops: Sequence[str], limit: int) -> None:
        self._stream = stream
        self._stops = StopStrings(stops)
        self._limit = limit
        self._pieces: list[str] = []
        self.tokens = 0
        self.finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        """All that was written so far and is sure."""
        return "".join(self._pieces)

    def take(self, token: int, ends: frozenset[int]) -> str:
        """Write one more token, and return the new text; one of `ends` is not written or counted.

        The pieces returned, put together, are `text`: no half characters, no stop string.
        """
        piece = ""
        if token in ends:
            self.finish_reason = "stop"
        else:
            self.tokens += 1
            piece = self._stops.add(self._stream.add(token))
            if self.tokens == self._limit:
                self.finish_reason = "length"
        if self.finish_reason and not self._stops.is_found:
            piece += self._stops.add(self._stream.finish()) + self._stops.finish()
        if self._stops.is_found:
            self.finish_reason = "stop"
        self._pieces.append(piece)
        return piece


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
