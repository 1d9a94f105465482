"""Alias of ``rankdistil.commands.export``, so that ``python -m rankdistil.export`` is short."""

import sys

from rankdistil.commands.export import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
