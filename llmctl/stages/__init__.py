"""The commands, as the help page groups them and in the order in which they are used.

A row is the address of the class of knobs and, so that the list imports no stage, the first
line of its docstring.
"""

COMMANDS = {
    "Build": {
        "collect": ("llmctl.stages.collect:Collect", "Collect raw text into a corpus"),
        "clean": (
            "llmctl.stages.clean:Clean",
            "Clean corpora: drop junk and copies, hide personal data, say what went and why",
        ),
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
    "Look": {
        "show": ("llmctl.stages.show:Show", "List the artifacts of the workspace, or look at one"),
        "forget": (
            "llmctl.stages.forget:Forget",
            "Take documents out of everything that holds them, and list what was trained on them",
        ),
        "verify": (
            "llmctl.stages.verify:Verify",
            "Hash every file again and compare it with the manifest",
        ),
    },
}
