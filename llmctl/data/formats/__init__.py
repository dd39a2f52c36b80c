"""How files become text: one module a format, found by the ending of the file's name.

A reader is `read(item, options) -> Iterator[Passage | Rejected]` (see `passage.py`); where a
file holds rows, `rows(item, encoding) -> Iterator[Row | Rejected]` gives them whole.
"""

PLAIN = "llmctl.data.formats.plain:read"

READERS = {
    "markdown": PLAIN,
    "md": PLAIN,
    "text": PLAIN,
    "txt": PLAIN,
    "htm": "llmctl.data.formats.markup:read",
    "html": "llmctl.data.formats.markup:read",
    "xhtml": "llmctl.data.formats.markup:read",
    "json": "llmctl.data.formats.json_rows:read_json",
    "jsonl": "llmctl.data.formats.json_rows:read_lines",
    "jsonlines": "llmctl.data.formats.json_rows:read_lines",
    "ndjson": "llmctl.data.formats.json_rows:read_lines",
    "csv": "llmctl.data.formats.delimited:read_csv",
    "tab": "llmctl.data.formats.delimited:read_tsv",
    "tsv": "llmctl.data.formats.delimited:read_tsv",
    "parquet": "llmctl.data.formats.tables:read_parquet",
    "pq": "llmctl.data.formats.tables:read_parquet",
    "arrow": "llmctl.data.formats.tables:read_arrow",
    "arrows": "llmctl.data.formats.tables:read_arrow",
    "feather": "llmctl.data.formats.tables:read_arrow",
    "ipc": "llmctl.data.formats.tables:read_arrow",
    "docx": "llmctl.data.formats.office:read_docx",
    "eml": "llmctl.data.formats.mail:read_message",
    "epub": "llmctl.data.formats.office:read_epub",
    "mbox": "llmctl.data.formats.mail:read_mbox",
    "pdf": "llmctl.data.formats.pdf:read",
    "tex": "llmctl.data.formats.latex:read",
    "nxml": "llmctl.data.formats.jats:read",
}

ROWS = {
    "json": "llmctl.data.formats.json_rows:value_rows",
    "jsonl": "llmctl.data.formats.json_rows:line_rows",
    "jsonlines": "llmctl.data.formats.json_rows:line_rows",
    "ndjson": "llmctl.data.formats.json_rows:line_rows",
    "csv": "llmctl.data.formats.delimited:csv_rows",
    "tab": "llmctl.data.formats.delimited:tsv_rows",
    "tsv": "llmctl.data.formats.delimited:tsv_rows",
    "parquet": "llmctl.data.formats.tables:parquet_rows",
    "pq": "llmctl.data.formats.tables:parquet_rows",
    "arrow": "llmctl.data.formats.tables:arrow_rows",
    "arrows": "llmctl.data.formats.tables:arrow_rows",
    "feather": "llmctl.data.formats.tables:arrow_rows",
    "ipc": "llmctl.data.formats.tables:arrow_rows",
}

ARCHIVES = {
    "tar": "llmctl.data.formats.archives:tar_items",
    "tbz": "llmctl.data.formats.archives:tar_items",
    "tbz2": "llmctl.data.formats.archives:tar_items",
    "tgz": "llmctl.data.formats.archives:tar_items",
    "txz": "llmctl.data.formats.archives:tar_items",
    "tzst": "llmctl.data.formats.archives:tar_items",
    "zip": "llmctl.data.formats.archives:zip_items",
}

COMPRESSIONS = ("gz", "bz2", "xz", "zst", "zstd")

# What a file with an unknown ending may begin with, in lower case.
BEGINNINGS = {
    b"<!doctype html": "html",
    b"<html": "html",
    b"par1": "parquet",
    b"arrow1": "arrow",
    b"%pdf-": "pdf",
}
