"""`python -m llmctl` is `llmctl`."""

import sys

from llmctl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
