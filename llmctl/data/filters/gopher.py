"""Gopher's rules of quality: the length, the words and the shape of lines of a text."""

from dataclasses import dataclass

from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Verdict

BULLETS = ("•", "-", "*", "‣", "▪", "●")
ELLIPSES = ("...", "…")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gopher:
    """Drop what is too short or too long, or does not look like prose."""

    fewest_words: int
    most_words: int
    shortest_mean_word: float
    longest_mean_word: float
    most_symbols_a_word: float
    most_bullet_lines: float
    most_ellipsis_lines: float
    fewest_alphabetic_words: float
    fewest_stop_words: int
    stop_words: tuple[str, ...]

    def judge(self, reading: Reading) -> Verdict:
        """Words first: they are cheap and drop most."""
        return self._words(reading) or self._symbols(reading) or self._language(reading)

    def _words(self, reading: Reading) -> Drop | None:
        number = len(reading.words)
        if number < self.fewest_words:
            return Drop("few words", f"{number}, at least {self.fewest_words}")
        if number > self.most_words:
            return Drop("many words", f"{number:,}, at most {self.most_words:,}")
        mean = float(reading.word_lengths.mean())
        # A character that counts as a word has no length to speak of.
        if mean < self.shortest_mean_word and reading.is_spaced:
            return Drop("short words", f"mean {mean:.1f}, at least {self.shortest_mean_word}")
        if mean > self.longest_mean_word:
            return Drop("long words", f"mean {mean:.1f}, at most {self.longest_mean_word}")
        return None

    def _symbols(self, reading: Reading) -> Drop | None:
        text, lines = reading.text, reading.lines
        words = len(reading.words)
        for name, number in (
            ("hash signs", text.count("#")),
            ("ellipses", sum(map(text.count, ELLIPSES))),
        ):
            if number / words > self.most_symbols_a_word:
                return Drop(name, f"{number / words:.2f} a word")
        bullets = sum(line.startswith(BULLETS) for line in lines) / len(lines)
        if bullets > self.most_bullet_lines:
            return Drop("bullet lines", f"{bullets:.0%} of the lines")
        trailing = sum(line.endswith(ELLIPSES) for line in lines) / len(lines)
        if trailing > self.most_ellipsis_lines:
            return Drop("ellipsis lines", f"{trailing:.0%} of the lines")
        return None

    def _language(self, reading: Reading) -> Drop | None:
        words = reading.words
        # Most words are nothing but letters; only the others are looked at one by one.
        alphabetic = sum(word.isalpha() or any(map(str.isalpha, word)) for word in words)
        share = alphabetic / len(words)
        if share < self.fewest_alphabetic_words:
            return Drop("words without letters", f"{1 - share:.0%} of the words")
        stop_words = len(set(self.stop_words).intersection(words))
        if stop_words < self.fewest_stop_words and reading.is_english:
            return Drop("few stop words", f"{stop_words}, at least {self.fewest_stop_words}")
        return None
