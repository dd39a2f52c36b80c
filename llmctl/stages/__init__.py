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
        "import": (
            "llmctl.stages.import_model:ImportModel",
            "Take a model from outside into the workspace",
        ),
    },
    "Specialise": {
        "finetune instruct": (
            "llmctl.stages.finetune_instruct:FinetuneInstruct",
            "Teach a language model to answer, by questions and answers",
        ),
        "finetune classify": (
            "llmctl.stages.finetune_classify:FinetuneClassify",
            "Make a classifier out of a language model and labelled texts",
        ),
    },
    "Judge": {
        "eval": (
            "llmctl.stages.eval:Eval",
            "Score a model on labelled data, beside another model",
        ),
    },
    "Use": {
        "predict": (
            "llmctl.stages.predict:Predict",
            "Show what a model expects next, or what a classifier takes texts for",
        ),
        "chat": ("llmctl.stages.chat:Chat", "Talk with a model"),
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
        "forget": (
            "llmctl.stages.forget:Forget",
            "Take documents out of everything that holds them, and list what was trained on them",
        ),
        "verify": (
            "llmctl.stages.verify:Verify",
            "Hash every file again and compare it with the manifest",
        ),
        "doctor": (
            "llmctl.stages.doctor:Doctor",
            "Look whether this machine is ready: versions, devices, speed, disk, clock",
        ),
    },
}
