"""Test finished rankers: ``python evaluate.py models=runs/ranker_distill/6l/seed0``."""

import hydra
from omegaconf import DictConfig

from rankdistil.cli import answer, one_message
from rankdistil.commands import speak
from rankdistil.words import evaluate_help


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate what the config says."""
    from rankdistil.commands.evaluate import evaluate  # torch is imported only once the config is known to be good

    answer(evaluate, cfg, "evaluate", speak)


if __name__ == "__main__":
    one_message(main, "evaluate", evaluate_help, speak)
