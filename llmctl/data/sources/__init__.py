"""Where text comes from: one file a source, one row a source."""

SOURCES = {
    "demo": "llmctl.data.sources.demo:Demo",
    "files": "llmctl.data.sources.files:Files",
    "commoncrawl": "llmctl.data.sources.commoncrawl:CommonCrawl",
    "books": "llmctl.data.sources.books:Books",
    "hub": "llmctl.data.sources.hub:Hub",
    "papers": "llmctl.data.sources.papers:Papers",
    "webtext": "llmctl.data.sources.webtext:WebText",
    "wikipedia": "llmctl.data.sources.wikipedia:Wikipedia",
}
