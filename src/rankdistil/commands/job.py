"""The job prepared in a run folder, carried out: ``python -m rankdistil.commands.job <folder>``, once for each device."""

import sys
from pathlib import Path

from rankdistil.cli import one_message
from rankdistil.commands import speak
from rankdistil.processes.stopping import follow_parent


def main() -> None:
    """Carry out the job of the folder named on the command line."""
    follow_parent()
    from rankdistil.commands.train import carry_out_prepared  # torch, behind the first look at the parent

    carry_out_prepared(Path(sys.argv[1]))


if __name__ == "__main__":
    one_message(main, "train", speak=speak)
