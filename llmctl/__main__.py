"""`llmctl` and `python -m llmctl`: the command line as a process of its own."""

import gc
import sys

from llmctl.registry import load


def command() -> int:
    """Run the words that the process was started with; its exit code.

    What the imports make lives as long as the process. To look through it for garbage, again and
    again, is a seventh of the time that a short command takes.
    """
    gc.disable()
    main = load("llmctl.cli.main:main")
    gc.freeze()
    gc.enable()
    return main()


if __name__ == "__main__":
    sys.exit(command())
