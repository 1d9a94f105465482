"""A SLURM of one node in a private folder, from Debian's packages (which can't be two nodes): no root, nothing installed.

munge, slurmctld and slurmd run as the current user, with a key, ports and a state of their own. The node says that it has two
CPUs, whatever the machine has. Jobs in the partition ``low`` are preempted by jobs in ``high``: they are told with SIGTERM, and
killed and queued again if they still run after ``GRACE`` seconds.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
NODE = "localhost"  # ranks look the first node's name up, and this one is known everywhere
GRACE = 60  # s between telling a preempted job and killing it
CONFIG = """
ClusterName=private
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={state}/munge.socket
PluginDir={plugins}
StateSaveLocation={state}/slurmctld
SlurmdSpoolDir={state}/slurmd
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
SlurmdParameters=config_overrides
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime={grace}
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""


@contextmanager
def private_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run a SLURM while the context lasts; cancel its jobs and stop its daemons at the end, whatever happens.

    Args:
        folder: for packages, keys, logs and state; made if it isn't there.

    Yields:
        The environment in which ``sbatch``, ``srun`` and the other commands find it.

    Raises:
        RuntimeError: if a package can't be had or a daemon doesn't start, with what it said.
    """
    root, state = folder / "root", folder / "state"
    root.mkdir(parents=True, exist_ok=True)
    state.mkdir(mode=0o700)
    (state / "slurmctld").mkdir()
    _unpack(_lacking(), folder, root)
    environment = _environment(root, state)
    plugins = [path.parent for base in (root, Path("/")) for path in base.glob("usr/lib/*/slurm-wlm/auth_munge.so")]
    names = {"node": NODE, "host": socket.gethostname().partition(".")[0], "user": getuser(), "grace": GRACE}
    (state / "slurm.conf").write_text(CONFIG.format(**names, ports=_free_ports(2), state=state, plugins=plugins[0]))
    try:
        _start(environment, state)
        yield environment
    finally:
        _stop(environment, state)


def _lacking() -> list[str]:
    """Ask apt which packages would have to be installed: those that the machine has are used as they are."""
    asked = ["apt-get", "install", "--simulate", "--no-install-recommends", *PACKAGES]
    try:
        lines = _output(asked).splitlines()
    except (RuntimeError, FileNotFoundError) as error:
        raise RuntimeError(f"SLURM comes from Debian's packages here, and apt has none: {error}\nTry: apt-get update") from None
    return [line.split()[1] for line in lines if line.startswith("Inst ")]


def _unpack(packages: list[str], folder: Path, root: Path) -> None:
    if packages:
        _output(["apt-get", "download", *packages], cwd=folder)
    for file in folder.glob("*.deb"):
        _output(["dpkg-deb", "--extract", str(file), str(root)])
        file.unlink()


def _environment(root: Path, state: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SUBMITIT_"))}
    commands = [str(root / "usr/bin"), str(root / "usr/sbin"), os.environ["PATH"], "/usr/sbin", "/sbin"]
    libraries = [str(path) for path in (*root.glob("usr/lib/*-linux-gnu"), *root.glob("usr/lib/*/slurm-wlm"))]
    libraries += [path for path in [os.environ.get("LD_LIBRARY_PATH")] if path]
    return inherited | {
        "PATH": os.pathsep.join(commands),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "SLURM_CONF": str(state / "slurm.conf"),
    }


def _free_ports(number: int) -> list[int]:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in listening]
    for one in listening:
        one.close()
    return ports


def _start(environment: dict[str, str], state: Path) -> None:
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={state}/munge.{suffix}" for option, suffix in files.items()]
    _output([_find("mungekey", environment), "--create", f"--keyfile={state}/munge.key"], env=environment)
    _output([_find("munged", environment), "--force", *munge], env=environment)  # the socket's folder is ours alone
    _output([_find("slurmctld", environment)], env=environment)
    _output([_find("slurmd", environment), "-N", NODE, "-d", _find("slurmstepd", environment)], env=environment)
    until = time.monotonic() + 60
    while "idle" not in (told := _output(["sinfo", "--noheader", "--format=%t"], env=environment, check=False)):
        if time.monotonic() > until:
            logs = "\n".join(f"{file.name}: {file.read_text()[-600:]}" for file in state.glob("*.log"))
            raise RuntimeError(f"the node isn't idle after a minute, but {told!r}.\n{logs}")
        time.sleep(0.3)


def _stop(environment: dict[str, str], state: Path) -> None:
    if (state / "slurmctld.pid").is_file():
        _output(["scancel", "--user", getuser()], env=environment, check=False)
        until = time.monotonic() + 45  # longer than KillWait
        while _output(["squeue", "--noheader"], env=environment, check=False) and time.monotonic() < until:
            time.sleep(0.3)
    for daemon in ("slurmd", "slurmctld", "munge"):
        file = state / f"{daemon}.pid"
        if file.is_file():
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGTERM)
            until = time.monotonic() + 20
            while file.is_file() and time.monotonic() < until:  # the daemon removes it at its end
                time.sleep(0.1)


def _find(name: str, environment: dict[str, str]) -> str:
    found = shutil.which(f"{name}-wlm", path=environment["PATH"]) or shutil.which(name, path=environment["PATH"])
    if found is None:
        raise RuntimeError(f"{name} is in none of the packages {', '.join(PACKAGES)}.")
    return found


def _output(command: list[str], check: bool = True, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()
