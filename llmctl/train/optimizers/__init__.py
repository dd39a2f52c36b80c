"""How weights change: one file an optimizer, one row an optimizer."""

OPTIMIZERS = {
    "muon": "llmctl.train.optimizers.muon:muon",
    "adamw": "llmctl.train.optimizers.adamw:adamw",
}
