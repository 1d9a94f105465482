"""Kills and errors at the moments that are easily forgotten; a run then ends as one that was left alone, bit for bit."""

import signal
from pathlib import Path

import pytest
import torch
from faulty import RUN, STEP, VALIDATION, Ended, assert_same, checkpoint, record, train

pytestmark = pytest.mark.slow

EXPORT = "rankdistil.callbacks.checkpoints:write_export"
RENAME = "rankdistil.files:move"
NOUNS = ["apples", "bees", "cats", "dogs", "eagles", "foxes", "geese", "horses"]
FILES = {
    "corpus.tsv": "".join(f"p{n}\tpassage {n} tells of {noun}\n" for n, noun in enumerate(NOUNS)),
    "queries.train.tsv": "".join(f"q{n}\twhich passage tells of {noun}\n" for n, noun in enumerate(NOUNS[:7])),
    "qrels.train.txt": "".join(f"q{n} 0 p{n} 1\n" for n in range(7)),
    "triples.train.tsv": "".join(f"q{n}\tp{n}\tp{(n + 3) % 8}\n" for n in range(7)),
    "queries.test.tsv": "t\ta passage of horses\n",
    "qrels.test.txt": "t 0 p7 1\n",
}
SHORT_EPOCHS = ["data=files", "data.train.triples=triples.train.tsv", "data.holdout=1", "data.batch_size=2",
                "data.test_queries=1", "data.valid_queries=1", "trainer.accumulate_grad_batches=2"]  # fmt: skip


def words(folder: Path) -> list[str]:
    """Settings of a run of eight steps, of two batches each, whose epochs have three."""
    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return [*SHORT_EPOCHS, f"data.root={folder}"]


@pytest.mark.fault("C2", "C3", "C4")
def test_a_run_that_is_killed_behind_an_epoch_inside_of_a_step_a_validation_and_an_export_ends_as_one_left_alone(
    tmp_path: Path,
) -> None:
    settings, whole, runs = words(tmp_path / "data"), tmp_path / "whole", tmp_path / "runs"
    ended = train(whole, *settings)
    assert ended.status == 0, ended.said
    for more, at, call, steps in (
        ([], STEP, 7, 3),  # behind the first epoch's last step
        (["resume=true"], STEP, 2, 3),  # behind the first of two batches
        (["resume=true"], VALIDATION, 1, 3),  # which is to save the fourth
        (["resume=true"], STEP, 7, 6),  # behind the second epoch
        (["resume=true"], EXPORT, 1, 8),
    ):
        ended = train(runs, *settings, "checkpoint_every=1", *more, at=at, call=call, do="signal SIGKILL")
        assert ended.status == -signal.SIGKILL, ended.said
        assert checkpoint(runs)["global_step"] == steps, (at, call)
    assert not (runs / RUN / "export").exists()
    ended = train(runs, *settings, "resume=true")
    assert ended.status == 0, ended.said
    assert_same(runs, whole)
    assert (runs / RUN / "valid.run").read_bytes() == (whole / RUN / "valid.run").read_bytes()
    assert record(runs)["validation"] == record(whole)["validation"]


@pytest.mark.fault("C1", "C7", "C12")
def test_whatever_happens_at_a_rename_no_file_is_half_there_and_whatever_the_clock_says_the_run_ends_alike(
    tmp_path: Path,
) -> None:
    """Renames are killed and refused in turn; then the clock jumps ahead."""
    settings, whole, runs = words(tmp_path / "data"), tmp_path / "whole", tmp_path / "runs"
    assert train(whole, *settings).status == 0
    for number, call in enumerate((2, 3, 5, 4)):
        do = "eio" if number % 2 else "signal SIGKILL"
        ended = train(runs, *settings, "checkpoint_every=1", *going_on(runs), at=RENAME, call=call, do=do)
        assert (ended.status, told(ended)) == ((1, "error: [Errno 5] Input/output error") if number % 2 else (-9, "")), call
        for file in (runs / RUN / "checkpoints").glob("[!.]*"):
            torch.load(file, weights_only=True)
        if (runs / RUN / "run.json").exists():
            assert record(runs)["settings"]
    ended = train(runs, *settings, "checkpoint_every=1", *going_on(runs), at=STEP, call=1, do=f"clock {365 * 86_400}")
    assert ended.status == 0, ended.said
    assert_same(runs, whole)


def going_on(runs: Path) -> list[str]:
    return ["resume=true"] if (runs / RUN / "checkpoints/last.ckpt").is_file() else []


def told(ended: Ended) -> str:
    return ended.said.strip().splitlines()[-1] if ended.said.strip() else ""
