"""The test of a finished stage: its export on every test split, beside its teacher."""

import re
from collections.abc import Sequence
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


Splits = Sequence[tuple[DictConfig, RankingDataModule]]
"""The settings of ``data`` for each test split, and its data."""


def open_splits(cfg: DictConfig, data: RankingDataModule) -> Splits:
    """Open every test split, so that bad data are answered before the first step.

    Args:
        cfg: the run's config.
        data: of the run, with the first split.
    """
    first, *others = parts.each_test(cfg.data)
    opened = [(first, data)]
    for settings in others:
        other, encoder = OmegaConf.create(plain(cfg) | {"data": plain(settings)}), data.encoder
        further = parts.build_data(other, encoder.tokenizer, encoder.max_tokens, cfg.seed, train=False)
        further.open_test()
        opened.append((settings, further))
    return opened


def score_splits(cfg: DictConfig, folder: Path, splits: Splits, teacher: CrossEncoder | None) -> list[Tested]:
    """Test the export of a run on each of its splits.

    The teacher's own test is taken where it is the same, else made here.

    Args:
        cfg: the run's config.
        folder: its folder; files of the first split go there, of the others below ``tests/``.
        splits: opened.
        teacher: timed beside the export on the first split; None for a stage without one.
    """
    tested, runner = [], parts.trainer_arguments(cfg)
    for settings, data in splits:
        first, name, level = data is splits[0][1], data.task("test").name, settings.test_relevance_level
        within = Path() if first else Path(FURTHER, slug(name))
        target, timing = folder / within, parts.timing_settings(cfg) if first else None
        beside = teacher if first else None
        score_export(str(folder / "export"), data, target, run_label(folder), level, runner, timing, beside)
        above = None
        if teacher is not None:
            above = teacher_folder(cfg) / within
            if cfg.teacher.export is not None or not same_test(above, target):
                above = target / "teacher"
                score_export(networks.teacher_source(cfg), data, above, f"teacher {cfg.teacher.name}", level, runner, timing)
        tested.append(Tested(name, target, above))
    return tested


def slug(name: str) -> str:
    """Turn the name of a split into one of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
