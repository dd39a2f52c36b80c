"""datatrove on the texts of stdin, a JSON list: seconds, and which filter dropped each.

Runs in an environment of its own: `pip install "datatrove[io,processing]==0.10.1" spacy`.
"""

import json
import sys
import time

from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

# In the order of llmctl's rules; C4's rule of terminal marks is off, as in FineWeb.
filters = [
    GopherQualityFilter(),
    GopherRepetitionFilter(),
    C4QualityFilter(filter_no_terminal_punct=False),
    FineWebQualityFilter(),
]
signature = MinhashDedupSignature(output_folder="/tmp/unused-signatures")
texts = json.load(sys.stdin)
filters[0].filter(Document(text=texts[0], id="warm"))


def judge(number: int, text: str) -> str:
    document = Document(text=text, id=str(number))
    for one in filters:
        verdict = one.filter(document)
        if verdict is not True:
            reason = verdict[1] if isinstance(verdict, tuple) else "dropped"
            return f"{type(one).__name__}: {reason}"
    signature.get_signature(signature.get_shingles(document.text))
    return ""


began = time.process_time()
dropped = [judge(number, text) for number, text in enumerate(texts)]
seconds = time.process_time() - began
size = sum(len(text.encode()) for text in texts)
print(json.dumps({"seconds": seconds, "bytes": size, "dropped": dropped}))
