"""Models as others name them: one file a family, one row a `model_type` of config.json."""

FAMILIES = {
    "qwen3": "llmctl.model.families.qwen3:FAMILY",
    "qwen2": "llmctl.model.families.qwen2:FAMILY",
    "llama": "llmctl.model.families.llama:FAMILY",
    "mistral": "llmctl.model.families.llama:FAMILY",
    "gemma": "llmctl.model.families.gemma:FAMILY",
    "gpt2": "llmctl.model.families.gpt2:FAMILY",
}
