"""The commands, as the help page groups them and in the order in which they are used.

A row is the address of the class of knobs and, so that the list imports no stage, the first
line of its docstring.
"""

COMMANDS = {
    "Build": {
        "collect": ("llmctl.stages.collect:Collect", "Collect raw text into a corpus"),
        "tokenize": (
            "llmctl.stages.tokenize:Tokenize",
            "Train a tokenizer, and turn corpora into tokens",
        ),
        "pretrain": ("llmctl.stages.pretrain:Pretrain", "Train a foundation model on tokens"),
    },
    "Use": {
        "predict": ("llmctl.stages.predict:Predict", "Show what a model expects next"),
        "generate": ("llmctl.stages.generate:Generate", "Let a model write on from a prompt"),
    },
    "Plan": {
        "estimate-cost": (
            "llmctl.stages.estimate_cost:EstimateCost",
            "Say what a training run takes: time, memory, energy and money, each with its interval",
        ),
        "decide": (
            "llmctl.stages.decide:Decide",
            "Should I fine-tune at all? Compare the ways by money, days and break-even",
        ),
    },
    "Look": {
        "show": ("llmctl.stages.show:Show", "List the artifacts of the workspace, or look at one"),
        "verify": (
            "llmctl.stages.verify:Verify",
            "Hash every file again and compare it with the manifest",
        ),
    },
}
