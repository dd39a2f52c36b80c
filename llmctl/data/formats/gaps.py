"""A paragraph out of which citations were taken -> one without empty brackets and lost blanks."""

import re

# What stays where citations were taken out: [, ], (; ), [–].
EMPTY = re.compile(r" ?[(\[](?:[\s,;–—-]|and|see|e\.g\.)*[)\]]")
BEFORE_MARK = re.compile(r" +(?=[,.;:])")


def close_gaps(text: str) -> str:
    """The text on one line, its gaps closed.

    >>> close_gaps("We watched [, ] mills (see ) turn .")
    'We watched mills turn.'
    """
    text = EMPTY.sub("", " ".join(text.split()))
    return BEFORE_MARK.sub("", text).strip()
