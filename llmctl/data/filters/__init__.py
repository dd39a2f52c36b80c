"""Rules that text must pass, in the order in which they look at it: one file, one row."""

FILTERS = {
    "encoding": "llmctl.data.filters.encoding:Encoding",
    "language": "llmctl.data.filters.language:Language",
    "boilerplate": "llmctl.data.filters.boilerplate:Boilerplate",
    "gopher": "llmctl.data.filters.gopher:Gopher",
    "repetition": "llmctl.data.filters.repetition:Repetition",
    "c4": "llmctl.data.filters.c4:C4",
    "fineweb": "llmctl.data.filters.fineweb:FineWeb",
    "pii": "llmctl.data.filters.pii:PersonalData",
}
