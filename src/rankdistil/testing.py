"""The test of a finished stage: its export on every test split, beside its teacher."""

import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rankdistil import networks, parts
from rankdistil.data.datamodule import RankingDataModule
from rankdistil.models.bert import CrossEncoder
from rankdistil.plan import teacher_folder
from rankdistil.report.result import same_test
from rankdistil.report.summary import Tested
from rankdistil.runfolder import run_label
from rankdistil.scoring import score_export
from rankdistil.settings import plain

FURTHER = "tests"  # folder of the second split's files, and the next ones'


def score_splits(cfg: DictConfig, folder: Path, data: RankingDataModule, teacher: CrossEncoder | None) -> list[Tested]:
    """Test the export of a run on each of its splits.

    The teacher's own test is taken where it is the same, else made here.

    Args:
        cfg: the run's config.
        folder: its folder; files of the first split go there, of the others below ``tests/``.
        data: of the run, with the first split.
        teacher: timed beside the export on the first split; None for a stage without one.
    """
    tested = []
    for number, settings in enumerate(parts.each_test(cfg.data)):
        split = data if number == 0 else _with_split(cfg, settings, data)
        name = split.task("test").name
        within = Path() if number == 0 else Path(FURTHER, slug(name))
        target, timing = folder / within, parts.timing_settings(cfg) if number == 0 else None
        level, runner = settings.test_relevance_level, parts.trainer_arguments(cfg)
        score_export(
            str(folder / "export"), split, target, run_label(folder), level, runner, timing, teacher if timing else None
        )
        above = None
        if teacher is not None:
            above = teacher_folder(cfg) / within
            if cfg.teacher.export is not None or not same_test(above, target):
                above = target / "teacher"
                score_export(networks.teacher_source(cfg), split, above, f"teacher {cfg.teacher.name}", level, runner, timing)
        tested.append(Tested(name, target, above))
    return tested


def slug(name: str) -> str:
    """Turn the name of a split into one of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def _with_split(cfg: DictConfig, settings: DictConfig, data: RankingDataModule) -> RankingDataModule:
    other, encoder = OmegaConf.create(plain(cfg) | {"data": plain(settings)}), data.encoder
    return parts.build_data(other, encoder.tokenizer, encoder.max_tokens, cfg.seed, train=False)
