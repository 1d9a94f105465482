"""What a user can start: one module for each command; a checkout's scripts, and the program ``rankdistil`` of a wheel."""

import importlib
import sys

import rankdistil.config  # noqa: F401  (its resolvers, which a config is composed with)
from rankdistil.cli import answer, conf_folder, one_message
from rankdistil.processes.ranks import Rank
from rankdistil.words import asked_for_help, evaluate_help, program_help, train_help

HELP = {"train": train_help, "evaluate": evaluate_help}
OTHERS = {  # whose words aren't Hydra's
    "export": "rankdistil.commands.export",
    "import-scores": "rankdistil.data.import_scores",
    "fetch": "rankdistil.data.fetch",
    "rank": "rankdistil.rank.__main__",
    "serve": "rankdistil.serve.__main__",
}


def start(command: str) -> None:
    """Compose the config that the command line asks for, and train or evaluate what it says.

    Args:
        command: ``train`` or ``evaluate``: name of the root config, of the module and of its function.
    """
    import hydra
    from omegaconf import DictConfig

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=command)
    def main(cfg: DictConfig) -> float | None:
        return answer(task, cfg, command, speak)

    def task(cfg: DictConfig) -> float | None:  # imports torch: only once the config is known to be good
        return getattr(importlib.import_module(f"rankdistil.commands.{command}"), command)(cfg)

    one_message(main, command, HELP[command], speak)


def program() -> int | None:
    """Carry out ``rankdistil <command> ...``; without a command that exists, list them.

    Returns:
        The exit status.
    """
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name in HELP:
        return start(name)
    if name in OTHERS:
        return importlib.import_module(OTHERS[name]).main(sys.argv[1:])
    return asked_for_help([name] if name in ("--help", "-h") else [], program_help())


def speak(rank: Rank, message: str) -> None:
    """Print why a rank fails, once for its group."""
    from rankdistil.processes.group import fail  # with torch, which a mistyped key needn't wait for

    fail(rank, message)
