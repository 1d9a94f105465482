"""Messages: jobs of a sweep that failed elsewhere, below a launcher that sends their errors back; a plugin; a full disk."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commands import command
from hydra.errors import MissingConfigException
from support import REPOSITORY

from rankdistil import cli


@pytest.mark.fault("A12")
def test_a_job_that_failed_in_another_process_is_named_at_the_end_and_the_command_exits_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.FULL, "0")
    monkeypatch.setenv(cli.MESSAGES, "1")
    monkeypatch.setattr(cli, "failed_jobs", [])
    sent = pickle.dumps(cli.JobFailedError("stage.lr=-1: stage.lr is -1"))
    cli.failed_jobs.clear()  # this is another process now

    def sweep() -> None:
        pickle.loads(sent)  # a launcher may look more than once
        raise pickle.loads(sent)

    with pytest.raises(SystemExit) as ended:
        cli.one_message(sweep, "train")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "1 jobs of the sweep failed:\n  stage.lr=-1: stage.lr is -1\n"


@pytest.mark.parametrize(("option", "extra"), [("sweeper/optuna", "search"), ("launcher/submitit_slurm", "slurm")])
def test_a_plugin_that_is_missing_is_named_with_the_extra_that_brings_it(option: str, extra: str) -> None:
    error = MissingConfigException(f"Could not find 'hydra/{option}'\n\nConfig search path:\n\tconf", None)
    assert cli.describe(error, "train") == (
        f"Could not find 'hydra/{option}'\nIts package isn't installed. Run: pip install -e '.[{extra}]'"
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a.json: 'd\x1b[2Jtype'\n\tno\x00", "a.json: 'd\\x1b[2Jtype'\n\tno\\x00"),
        ("half \ud800, \u202eturned, Zürich 東京", "half \\ud800, \\u202eturned, Zürich 東京"),
        (f"a.json: {'x' * 70_000} is long.\n{'y' * 2000}", f"a.json: {'x' * 1392} [...] {'x' * 591} is long.\n{'y' * 2000}"),
    ],
    ids=["control characters", "halves of characters, and what turns a line around", "length"],
)
def test_what_a_damaged_file_holds_drives_no_terminal_and_fills_none(said: str, shown: str) -> None:
    assert cli.describe(ValueError(said), "train") == shown


WHOLE = "Nothing is half-written: what stood there before still does."
GOES_ON = f"and start the same command again, a training that left a checkpoint with resume=true. {WHOLE}"
PAPER = """
import json, os, pathlib, resource, sys
from rankdistil.cli import describe
from rankdistil.files import write_text
file = pathlib.Path(sys.argv[1], "some/run.json")
file.parent.mkdir()
write_text(file, "x" * 100_000)
try:
    write_text(file, "y" * 2_000_000)
except OSError as error:
    print(json.dumps([describe(error, "train"), file.read_text() == "x" * 100_000, os.listdir(file.parent)]))
"""


@pytest.mark.fault("C8")
def test_a_full_disk_is_named_with_what_needs_how_much_and_what_is_free(tmp_path: Path) -> None:
    """A disk of a megabyte, which only this process sees."""
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run([*inside, mount], capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    words = [*inside, f'{mount} && exec "$0" -c "$1" {tmp_path}', sys.executable, PAPER]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    message, kept, files = json.loads(done.stdout)
    assert message == (
        f"the disk {tmp_path} is full: {tmp_path}/some/run.json needs at least 0.9 MB, and 0.9 MB are free on its disk, "
        f"{tmp_path}. Make room, {GOES_ON}"
    )
    assert (kept, files) == (True, ["run.json"])


LIMITED = """
import json, os, pathlib, resource, sys
import numpy, torch
from safetensors.torch import save_file
from rankdistil.callbacks.checkpoints import AtomicCheckpointIO, require_whole
from rankdistil.cli import describe
from rankdistil.files import built, written
folder, large = pathlib.Path(sys.argv[1]), torch.arange(1_000_000.0)
last = folder / "last.ckpt"

def checkpoint(number):
    AtomicCheckpointIO().save_checkpoint({"global_step": number, "state_dict": {"weight": large[:number].clone()}}, last)

def export(number):
    with built(folder / "export") as place:
        save_file({"weight": large[:number].clone()}, place / "model.safetensors")

def marks(number):
    with written(folder / "trained_on.npy") as place, place.open("wb") as file:
        numpy.save(file, large[:number].numpy())

resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
told = {}
for write in (checkpoint, export, marks):
    write(1000)
    try:
        write(1_000_000)
    except Exception as error:
        told[write.__name__] = describe(error, "train")
require_whole(last)
assert torch.load(last, weights_only=True)["global_step"] == 1000
assert (folder / "export/model.safetensors").stat().st_size < 5000 and len(numpy.load(folder / "trained_on.npy")) == 1000
print(json.dumps([told, sorted(os.listdir(folder))]))
"""


@pytest.mark.fault("C8")
def test_what_torch_and_others_make_of_a_file_that_is_too_large_is_told_as_what_it_is(tmp_path: Path) -> None:
    done = command("-c", LIMITED, str(tmp_path))
    told, files = json.loads(done.stdout)
    for name, file, size in (("checkpoint", "last.ckpt", "4.0"), ("export", "export", "0."), ("marks", "trained_on.npy", "")):
        assert told[name].startswith("a file is larger than this user's may be (ulimit -f): "), told[name]
        assert f"{tmp_path}/{file} needs at least {size}" in told[name]
        assert told[name].endswith(f" MB are free on its disk, {_disk(tmp_path)}. Raise the limit, {GOES_ON}")
    assert files == ["export", "last.ckpt", "trained_on.npy"]


def _disk(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_mount())


def test_a_run_s_folder_that_is_a_link_is_on_the_disk_that_it_leads_to(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_mount():
        pytest.skip("there is no second disk")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        (tmp_path / "run").symlink_to(other)
        told = cli.full_disk(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "run")
    assert told.startswith(f"the disk {memory} is full: no more can be written into {tmp_path}/run, and ")


def test_a_used_up_quota_is_told_where_nobody_knows_the_file_the_run_s_folder_is_named(tmp_path: Path) -> None:
    error = OSError(errno.EDQUOT, "Disk quota exceeded")
    told = cli.full_disk(error, tmp_path / "run")
    assert told.startswith(
        f"the user's quota on the disk {_disk(tmp_path)} is used up: no more can be written into {tmp_path}/run, "
    )
    assert cli.describe(cli.DiskFullError(told), "train") == told
    assert cli.describe(error, "train") == f"a disk is full: {error}. df -h shows which one."


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), ValueError("no space"), RuntimeError("(os error 5)")]
)
def test_another_error_is_no_full_disk(error: Exception) -> None:
    assert cli.full_disk(error) is None
