"""Entry point of a job prepared in a run folder: ``python -m rankdistil.commands.job <folder> <number of processes>``."""

import sys
from pathlib import Path

from rankdistil.cli import one_message
from rankdistil.commands import speak
from rankdistil.processes import ranks
from rankdistil.processes.stopping import follow_parent


def main() -> None:
    """Carry out the job of the folder named on the command line, in this process, or in several that this one starts."""
    follow_parent()
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    if number > 1 and ranks.current() is None:
        from rankdistil.processes.launch import run_ranks  # with torch, behind the first look at the parent

        run_ranks(folder, number)
        return
    from rankdistil.commands.train import carry_out_prepared

    carry_out_prepared(folder)


if __name__ == "__main__":
    one_message(main, "train", speak=speak)
