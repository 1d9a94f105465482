"""Error handling of the commands: one message instead of a traceback, and the exit status.

Imports little: a mistyped key should be answered before torch is loaded.
"""

import difflib
import errno
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rankdistil.files import CHECKOUT, PACKAGE
from rankdistil.processes import ranks
from rankdistil.processes.stopping import Stopped, drop_closed_outputs, ended_by_signals, queue_again
from rankdistil.words import asked_for_help, first_choice, installing, key_of, module_help, readable, several, unreadable

if TYPE_CHECKING:
    from rich.console import Console

FULL = "HYDRA_FULL_ERROR"
SAID = 1  # the exit status of a process that has printed its message
AMBIGUOUS = "Ambiguous value for argument '"
PLUGINS = {
    "Could not find 'hydra/sweeper/optuna'": "search",
    "Could not find 'hydra/launcher/submitit": "slurm",
}  # an extra brings it
SEARCH_PATH = "\nConfig search path:"  # Hydra closes its list of options with it; the list is what helps

MESSAGES = "RANKDISTIL_MESSAGES"  # environment: a program of ours set ``FULL``, not the user; a batch system hands both on

wanted_full = os.environ.get(FULL) == "1" and MESSAGES not in os.environ
Speaker = Callable[[ranks.Rank, str], None]
failed_jobs: list[str] = []  # of a sweep: overrides and message, for the end


class ChildFailedError(Exception):
    """A job in a process of its own failed, and said why."""


class JobFailedError(Exception):
    """A job of a sweep failed; its message was printed. The sweep goes on and exits 1 at its end.

    A launcher that ran the job elsewhere makes the error again from its pickle, and so adds it to this process's list.
    """

    def __init__(self, row: str) -> None:
        super().__init__(row)
        if row not in failed_jobs:
            failed_jobs.append(row)


def answer(task: Callable[[DictConfig], float | None], cfg: DictConfig, config_name: str, speak: Speaker) -> float | None:
    """Carry out the task of a Hydra main; on an error print one message, and end the program or the sweep's job.

    Hydra would add a line of its own to an error that leaves its main function.

    Args:
        task: what to do with the config.
        cfg: the composed config.
        config_name: the root config, for suggestions.
        speak: prints a message of failure for a group of processes that this one belongs to.

    Returns:
        What the task returns, for a sweeper.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    try:
        return task(cfg)
    except Stopped as stopped:
        queue_again(stopped.signum)
        raise
    except Exception as error:
        if wanted_full:
            raise
        message = describe(error, config_name)
        if not isinstance(error, ChildFailedError):
            _fail(message, speak)
        hydra = HydraConfig.get()
        if hydra.mode == RunMode.MULTIRUN:
            words = " ".join(word.removeprefix("++") for word in hydra.overrides.task)  # see ``rankdistil.words``
            raise JobFailedError(f"{words}: {message.splitlines()[0]}") from error
        sys.exit(SAID)


def one_message(
    main: Callable[[], None], config_name: str, help_of: Callable[[Path], str] | None = None, speak: Speaker | None = None
) -> None:
    """Run a Hydra main; on an error print one message and exit 1, on a signal 128 + signal.

    With ``--help`` print the help instead and exit 0; without a word, exit 2.

    ``HYDRA_FULL_ERROR=1`` shows the stack instead.

    Args:
        main: the decorated function.
        config_name: the root config, for suggestions.
        help_of: writes the help, given the folder of configs; None for a command that has none of its own.
        speak: prints a message of failure for a group of processes that this one belongs to; None for a command that is none's.
    """
    if help_of is not None and (status := asked_for_help(sys.argv[1:], help_of(conf_folder()))) is not None:
        sys.exit(status)
    sys.argv[1:] = readable(sys.argv[1:], config_name, conf_folder())
    if not wanted_full:
        os.environ[MESSAGES] = "1"
    os.environ[FULL] = "1"  # Hydra then lets errors through instead of printing its own account of them
    try:
        with ended_by_signals():
            _refuse_words(config_name)
            main()
    except Stopped as stopped:
        rank = ranks.current()
        if not stopped.told and (rank is None or rank.world == 1):
            drop_closed_outputs()
            how = " Run the same command again, with resume=true if it left a checkpoint." if config_name == "train" else ""
            print(f"{stopped}.{how}", file=sys.stderr)
        raise
    except Exception as error:
        if wanted_full:
            raise
        if not isinstance(error, JobFailedError):  # which has printed its message, and is listed below
            _fail(describe(error, config_name), speak)
            sys.exit(SAID)
    if failed_jobs:  # a search ends well in spite of them
        rows = "\n  ".join(failed_jobs)
        print(f"{len(failed_jobs)} jobs of the sweep failed:\n  {rows}", file=sys.stderr)
        sys.exit(SAID)


def run_command(words: Sequence[str], doc: str, task: Callable[[], None]) -> int:
    """Run a command that needs no config; print one message where that fails.

    Args:
        words: of the command line.
        doc: docstring of its module, for the help.
        task: does what the words say.

    Returns:
        The exit status: 128 + signal where one stopped it; see ``asked_for_help`` for that of the help.
    """
    if (status := asked_for_help(words, module_help(doc))) is not None:
        return status
    try:
        with ended_by_signals():
            task()
    except Stopped as stopped:
        print(f"{stopped}.", file=sys.stderr)
        return stopped.code
    except Exception as error:
        if wanted_full:
            raise
        print(f"error: {describe(error, 'train')}", file=sys.stderr)
        return SAID
    return 0


def _refuse_words(config_name: str) -> None:
    """Refuse words that Hydra would take and nothing here could follow."""
    words = [word.lstrip("+") for word in sys.argv[1:]]
    for word in words:
        if word.startswith("hydra.run.dir="):  # it makes none, and what is written has other keys
            keys = "folder=<name> and paths.evaluations=<folder>" if config_name == "evaluate" else "run_name, paths.runs"
            raise ValueError(f"{word} names no folder here. Its place is named by {keys}.")
    search = next((word for word in words if word.startswith("search=")), None)
    if search and (plan := next((word for word in words if word in ("plan=show", "plan=check")), None)):
        raise ValueError(
            f"{plan} has nothing to tell of +{search}, which chooses the settings of each run by the results of those before. "
            f"Leave +{search} out: its runs have the plan and the data of the run without it."
        )


def console() -> "Console":
    """Return the console for tables: as wide as the terminal, wide enough for a table elsewhere; mute but for rank 0."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False, quiet=ranks.mute())


def _fail(message: str, speak: Speaker | None) -> None:
    """Print a message of failure; ranks of a group print one for all."""
    rank = ranks.current()
    if speak is None or rank is None or rank.world == 1:
        print(f"error: {message}", file=sys.stderr)
    else:
        speak(rank, message)


def describe(error: Exception, config_name: str) -> str:
    """Say in one message what went wrong, as a terminal can show it."""
    return printable(_told(error, config_name))


LINE = 1400, 600  # characters at the beginning and the end of a message's line that are shown; some twenty lines of a terminal
UNSHOWN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # but tab and line feed


def printable(message: str) -> str:
    """Return a message as a terminal can show it: what a damaged file holds may drive one, or be of any length."""
    lines = UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], message).split("\n")
    before, behind = LINE
    return "\n".join(f"{line[:before]} [...] {line[-behind:]}" if len(line) > before + behind else line for line in lines)


def _told(error: Exception, config_name: str) -> str:
    from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    if isinstance(error, ConfigCompositionException) and str(error).startswith("Could not override '"):
        return _not_overridden(str(error).split("'")[1], config_name)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if isinstance(error, HydraException) and str(error).startswith(AMBIGUOUS):
        return several(str(error).partition(AMBIGUOUS)[2].partition("'\n")[0])
    if isinstance(error, MissingMandatoryValue):
        key = error.full_key or str(error).splitlines()[0].rpartition(": ")[2]
        return f"{key} is not set. Give it on the command line: {key}=<value>."
    if isinstance(error, HydraException | OmegaConfBaseException):
        needed = next((extra for start, extra in PLUGINS.items() if start in str(error)), None)
        fix = f"\nIts package isn't installed. Run: {installing(needed)}" if needed else ""
        return str(error).partition(SEARCH_PATH)[0].strip() + fix
    if told := full_disk(error) or _no_memory(error):
        return told
    if isinstance(error, ValueError | RuntimeError | OSError | ChildFailedError):
        return str(error).strip() or repr(error)
    return f"{type(error).__name__}: {error}\nThis looks like a fault of rankdistil. {FULL}=1 shows where it happened."


ONEDNN = "could not create a primitive"  # what it says to most failures
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def _no_memory(error: Exception) -> str | None:
    """Say that there is no memory left, of the machine or of a GPU, in the library's words, and what takes less."""
    said = str(error).partition("\n")[0].strip()
    if not (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, which need not be imported here
        or any(words in said for words in NO_MEMORY)
        or said == ONEDNN
    ):
        return None
    return (
        f"there is {'probably ' if said == ONEDNN else ''}no memory for more: {said or 'Python has got none'}. Lower "
        "data.batch_size (or raise trainer.accumulate_grad_batches: the same step in more parts), data.eval_batch_size or "
        "data.max_length, or end other programs; a training that left a checkpoint goes on with resume=true."
    )


class DiskFullError(OSError):
    """There is no room for what was to be written."""


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(error: BaseException, folder: Path | None = None) -> str | None:
    """Say that a disk is full, which one, for what, how much that needs and how much is free; None for any other error.

    Libraries wrap what the system told them: torch in an error about positions in a file, safetensors and tokenizers in a text,
    numpy in a count.

    Args:
        error: what was raised, with what caused it.
        folder: where something was written, if none of them knows.
    """
    if isinstance(error, DiskFullError):
        return str(error)
    chain = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    number = next((found for each in chain if (found := _no_room(each))), None)
    if number is None:
        return None
    target, size = next((each.writing for each in chain if hasattr(each, "writing")), (folder, 0))
    if target is None:
        return f"a disk is full: {error}. df -h shows which one."
    place = Path(target).absolute()
    above = next(path for path in (place, *place.parents) if path.is_dir()).resolve()  # a link may lead to another disk
    disk = next(path for path in (above, *above.parents) if path.is_mount())
    needs = f"{target} needs at least {_megabytes(size)}" if size else f"no more can be written into {target}"
    room = f"{_megabytes(shutil.disk_usage(above).free)} are free on its disk, {disk}"
    why = {
        errno.ENOSPC: f"the disk {disk} is full: {needs}, and {room}. Make room",
        errno.EDQUOT: f"the user's quota on the disk {disk} is used up: {needs}, and {room} for others. Make room",
        errno.EFBIG: f"a file is larger than this user's may be (ulimit -f): {needs}; {room}. Raise the limit",
    }
    return (
        f"{why[number]}, and start the same command again, a training that left a checkpoint with resume=true. Nothing is "
        "half-written: what stood there before still does."
    )


def _no_room(error: BaseException) -> int | None:
    """Return the number by which the system says that there is no room for a file; None for another error."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    if told is not None and int(told[1]) in NO_ROOM:
        return int(told[1])
    if isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
        return errno.EFBIG if limited else errno.ENOSPC
    return None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that a key doesn't exist, and which one may be meant."""
    known = list(known)
    section, _, name = key.rpartition(".")
    siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == section]
    near = [f"{section}.{s}".lstrip(".") for s in difflib.get_close_matches(name, siblings, n=1, cutoff=0.5)]
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"there is no setting {key!r}. Did you mean {near[0]!r}?"
    listed = f" {section or 'The root'} has: {', '.join(siblings)}." if siblings else ""
    return f"there is no setting {key!r}.{listed}"


def _not_overridden(key: str, config_name: str) -> str:
    """Say why Hydra couldn't set a key: there is none, or another word has put something else in its section's place."""
    if key == "loss":
        return (
            "loss=<name> chooses the one loss of stage score_distill, and this command has another stage. Add "
            "stage=score_distill, or take an experiment of that stage: +experiment=margin_mse_6l."
        )
    known = known_keys(config_name)
    if key not in known:
        return unknown_key(key, known)
    above = next((word for word in sys.argv[1:] if key.startswith(f"{key_of(word)}.")), "another part of the config")
    return f"{key} can't be set beside {above}, which leaves nothing there to set it in. Leave one of them out."


def conf_folder() -> Path:
    """Return the folder of configs: beside the script, else that of the checkout, or in the package that a wheel brought."""
    beside = Path(sys.argv[0]).resolve().parent / "conf"
    return beside if beside.is_dir() else (PACKAGE.parents[1] if CHECKOUT else PACKAGE) / "conf"


def known_keys(config_name: str) -> list[str]:
    """List the keys of the config that the command line's groups select, of a sweep's the first; none where they make none."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    folder = conf_folder()
    groups = [first_choice(word) for word in sys.argv[1:] if "=" in word and (folder / key_of(word)).is_dir()]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            cfg = compose(config_name, overrides=groups)
    except HydraException:
        return []

    def walk(node: DictConfig, prefix: str) -> Iterable[str]:
        for key in node:
            yield f"{prefix}{key}"
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
                yield from walk(child, f"{prefix}{key}.")

    return list(walk(cfg, ""))
