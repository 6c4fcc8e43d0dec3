"""Train and evaluate runs: `python launch.py --help`."""

import sys

from lom_exp.launcher.command_line import main

if __name__ == "__main__":
    sys.exit(main())
