"""Config resolvers of conf/: what a config computes out of other settings; registered by whoever imports this package."""

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rankdistil.data.files.layout import file_name, validation_files
from rankdistil.models.locate import short_name
from rankdistil.teachers.scorers import RANKER


def _register() -> None:
    OmegaConf.register_new_resolver(
        "rankdistil.half", lambda number: number // 2, replace=True
    )  # conf/scale: two steps of a stage
    OmegaConf.register_new_resolver("rankdistil.teacher", _teacher, replace=True)  # conf/teacher
    for name, naming in {"file": file_name, "validation": validation_files}.items():  # conf/data/files.yaml: what nobody named
        OmegaConf.register_new_resolver(f"rankdistil.{name}", _of_root(naming), replace=True)


def _teacher(name: str, _root_: DictConfig) -> str:
    kind, path = (OmegaConf.select(_root_, f"teacher.{key}") for key in ("kind", "path"))
    return name if kind in (None, RANKER) else short_name(str(path))


def _of_root(naming: Callable[..., Any]) -> Callable[..., Any]:
    def named(*words: str, _root_: DictConfig) -> Any:
        found = naming(OmegaConf.select(_root_, "data.root"), *words)  # None where it isn't set
        return OmegaConf.create(found) if isinstance(found, dict) else found

    return named


_register()
