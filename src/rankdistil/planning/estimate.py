"""Expected time of a plan: at the pace of a finished run of the same kind, else counted operations over a rate.

One thread's best of many short matrix products is the rate: with all threads, a product that shares its cores with other
programs waits for the slowest of them, and says nothing about the machine. GPUs have no rate here, only finished runs.
"""

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from omegaconf import DictConfig

from rankdistil.config.choices import asks_teacher, each_test, named_source, reads_scores
from rankdistil.data.collections.reader import Reader
from rankdistil.data.fetch import missing
from rankdistil.inference.machine import on_cpu
from rankdistil.models.checkpoints import read_config
from rankdistil.models.families import shape_of
from rankdistil.models.locate import locate
from rankdistil.planning.plan import OF_ASSISTANT, Step, among
from rankdistil.processes import ranks
from rankdistil.runs.record import device, read_record, run_config
from rankdistil.stages import data as run_data
from rankdistil.stages import networks

# Of one thread's best product times the threads. Calibrated by a teacher (6x384) on two cores with AVX2, 84 GFLOP/s each: its
# 300 steps and 3 validations, 37.9 TFLOP, took 445 s (0.51), its test and timing, 17.6 TFLOP, 187 s (0.56).
EFFICIENCY = 0.5
# Tokens with their padding, of data.max_length: in the embedded collection 97 of 155 of a pair, 82 of a passage alone.
FILL, FILL_ALONE = 0.63, 0.53
BACKWARD = 2  # forward passes that the gradients cost
PACE = (  # settings that don't change a run's seconds per step, nor its test
    "seed", "stage.lr", "stage.steps", "stage.warmup_share", "stage.weight_decay", "stage.gradient_clip", "stage.averaging",
    "stage.losses.*.weight", "student.init_from", "parents.*",
)  # fmt: skip
BURST_S = 0.3
BURST = 512, 384, 384  # rows, inner and columns of the product


def forward_flops(layers: int, width: int, inner: int, tokens: float) -> float:
    """Operations of a forward pass of one sequence, a multiply-add counted as 2; embeddings and norms are left out.

    Args:
        layers: of the network.
        width: of its states.
        inner: of its feed-forward layers.
        tokens: of the sequence.
    """
    each = 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * tokens**2 * width
    return layers * each + 2 * width**2


def run_flops(cfg: DictConfig, tested: int | None, assistant: DictConfig | None = None) -> float | None:
    """Operations of a run: training, validations, test and timing; None where they can't be known.

    They can't where the teacher's shape isn't known here, or documents are read in as many windows as they are long.

    Args:
        cfg: a checked config.
        tested: test queries of all splits, for a stage that ranks; None where they aren't known.
        assistant: config of the run of the assistant that teaches in place of the teacher, if one does.
    """
    own, above = _shapes(cfg)
    if own is None or (cfg.stage.teacher != "none" and above is None):
        return None
    if cfg.data.get("windows") is not None and cfg.stage.reads == "triples":
        return None
    data, stage = cfg.data, cfg.stage
    passages = stage.reads == "passages"
    tokens = data.max_length * (FILL_ALONE if passages else FILL)
    student = forward_flops(*own, tokens)
    teacher = 0.0 if above is None else forward_flops(*above, tokens)
    live = 0.0 if reads_scores(cfg) else teacher if assistant is None else forward_flops(*_size(assistant), tokens)
    pairs = data.batch_size * (2 if passages else 1 + data.negatives)
    if data.max_tokens is not None:
        pairs = data.max_tokens / tokens
    flops = stage.steps * pairs * (live + (1 + BACKWARD) * student)
    rounds = min(stage.validations, stage.steps)
    if not networks.build_losses(cfg, None).trains_head:
        asked = data.valid_passages if passages else data.valid_queries * data.valid_depth
        return flops + rounds * asked * (student + live)
    if tested is None:
        return None
    flops += data.valid_queries * data.valid_depth * (rounds * student + live)
    flops += tested * data.depth * student
    return flops + _timed_pairs(cfg) * (student + (teacher if asks_teacher(cfg) else 0))


def _timed_pairs(cfg: DictConfig) -> float:
    timing = run_data.timing_settings(cfg)
    if timing is None:
        return 0
    pairs = sum(timing.queries * depth for depth in timing.candidates) + timing.throughput_pairs
    return pairs * (timing.rounds + timing.warmup) * len(timing.variants)


def _shapes(cfg: DictConfig) -> tuple[tuple[int, int, int] | None, tuple[int, int, int] | None]:
    """Return layers, width and inner width of what learns, and of what it learns from; None for what isn't there."""
    place = locate(named_source(cfg))
    known = read_config(str(place)) if isinstance(place, Path) else None
    shape = known and shape_of(known)
    above = shape and (shape.layers, shape.hidden_size, shape.intermediate_size)
    if cfg.stage.learns != "student":
        return above, None
    return _size(cfg), None if cfg.stage.teacher == "none" else above


def _size(cfg: DictConfig) -> tuple[int, int, int]:
    size = networks.student_size(cfg.student)
    return size.layers, size.hidden_size, size.intermediate_size


def tested_queries(cfg: DictConfig) -> int | None:
    """Count the queries that a run is tested on, of all splits; None where one isn't on this machine."""
    total = 0
    for data in each_test(cfg.data):
        found = _judged(run_data.open_reader(data, "test"))
        if found is None:
            return None
        total += found if data.test_queries is None else min(found, data.test_queries)
    return total


def _judged(reader: Reader) -> int | None:
    if reader.holdout is not None and reader.holdout.inside:
        return reader.holdout.queries
    if missing(reader.dataset, ["queries", "qrels"]):
        return None
    return len(reader.qrels)


def finished_pace(step: Step) -> float | None:
    """Seconds of a run at the pace of the last finished one of the same kind on this machine; None if there is none.

    A pace is seconds per step, validations included; what came after training is taken to last as long as it did there.
    """
    found = []
    for file in Path(step.cfg.paths.runs).glob("*/*/*/run.json"):
        record = read_record(file.parent) or {}
        if record.get("status") == "finished" and "train_s" in record and _alike(step, file.parent, record):
            rest = max(0.0, record["wall_s"] - record["train_s"])
            found.append((record["finished"], record["train_s"] / record["settings"]["stage.steps"], rest))
    if not found:
        return None
    _, pace, rest = max(found)
    return pace * step.cfg.stage.steps + rest


def _alike(step: Step, folder: Path, record: dict) -> bool:
    def kept(settings: dict) -> dict:
        return {key: value for key, value in settings.items() if not among(key, PACE)}

    origin = record["origin"]
    same = kept(record["settings"]) == kept(step.settings) and record.get("tests") == step.tests
    if not same or origin["device"] != device():
        return False
    if origin["threads"] != torch.get_num_threads():
        return False
    other = run_config(folder).teacher
    return all(other.get(key) == step.cfg.teacher[key] for key in ("path", "export", "scores", *OF_ASSISTANT))


def seconds(step: Step) -> float | None:
    """How long a run will take, in seconds; None where that isn't known."""
    if step.cfg.stage.learns == "nothing":
        return None  # how many pairs a teacher scores is known once they have been chosen
    if step.state.name == "to test":  # as long as all that came after its training
        record = read_record(step.folder) or {}
        return max(0.0, record["wall_s"] - record["train_s"]) if "train_s" in record else None
    if (known := finished_pace(step)) is not None:
        return known
    if not on_cpu(str(step.cfg.trainer.get("accelerator", "auto"))):
        return None
    ranking = networks.build_losses(step.cfg, None).trains_head
    flops = run_flops(step.cfg, tested_queries(step.cfg) if ranking else None, step.assistant)
    threads = max(torch.get_num_threads(), ranks.wanted(step.cfg.trainer))
    return None if flops is None else flops / (thread_rate() * threads * EFFICIENCY)


@cache
def thread_rate() -> float:
    """Operations per second of one thread: the best of many short products in float32, in time that it had the core."""
    rows, inner, columns = BURST
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left, right = torch.ones(rows, inner), torch.ones(inner, columns)
        best, started = float("inf"), time.perf_counter()
        while time.perf_counter() - started < BURST_S:
            begun = time.thread_time()
            torch.mm(left, right)
            best = min(best, time.thread_time() - begun)
    finally:
        torch.set_num_threads(threads)
    return 2 * rows * inner * columns / best


def told(time_s: float | None, resumed: bool = False) -> str:
    """Say a time in minutes, hours or days; a run that goes on takes at most as long as from its beginning."""
    if time_s is None:
        return "-"
    if time_s < 60:
        return "under 1 min"
    number, unit = next(
        (time_s / length, unit) for length, most, unit in ((60, 90, "min"), (3600, 48, "h"), (86400, float("inf"), "days"))
        if time_s / length < most
    )  # fmt: skip
    return f"{'at most' if resumed else 'about'} {number:.0f} {unit}"


def expected(steps: Sequence[Step]) -> tuple[list[str], str]:
    """Say how long the runs of a plan that are left will take.

    Returns:
        A text for each step, empty for one that is finished; and a line for all of them together.
    """
    left = {place: seconds(step) for place, step in enumerate(steps) if step.state.name != "finished"}
    texts = ["" if place not in left else told(left[place], step.state.name == "to resume") for place, step in enumerate(steps)]
    known = [value for value in left.values() if value is not None]
    if not left:
        return texts, "nothing is left to run."
    unknown = len(left) - len(known)
    line = f"expected: {told(sum(known) if known else None)} in all"
    return texts, f"{line}{f', without {unknown} runs whose time is not known here' if unknown else ''}."
