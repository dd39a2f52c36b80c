"""Where text comes from: one file a source, one row a source."""

SOURCES = {
    "demo": "llmctl.data.sources.demo:Demo",
    "files": "llmctl.data.sources.files:Files",
    "wikipedia": "llmctl.data.sources.wikipedia:Wikipedia",
}
