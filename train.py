"""Train a stage: ``python train.py +experiment=ranker_distill_6l``. Parents that are missing are trained first."""

import hydra
from omegaconf import DictConfig

from rankdistil.cli import answer, one_message
from rankdistil.commands import speak
from rankdistil.words import train_help


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Train what the config says."""
    from rankdistil.commands.train import train  # torch is imported only once the config is known to be good

    return answer(train, cfg, "train", speak)


if __name__ == "__main__":
    one_message(main, "train", train_help, speak)
