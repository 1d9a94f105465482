"""Measures the memory of a training step in a process of its own. Prints it as JSON.

python -m benchmarks.training_memory <stage> <model> <variant>
"""

import json
import sys
from pathlib import Path

import torch

from benchmarks.machine import memory
from benchmarks.training_steps import module_of, naive_step, our_step
from benchmarks.training_texts import draw_work

STEPS = 2  # the second one has the optimiser's state beside everything else


def main() -> None:
    """Take two steps; print the most that was resident, in MiB: in all, and above what was before the first step."""
    stage, name, variant = sys.argv[1:]
    torch.set_num_threads(1)
    work = draw_work(STEPS, None, 0)
    naive = variant == "naive"
    step = naive_step(stage, name, "cpu") if naive else our_step(module_of(stage, name), "cpu", variant == "bfloat16")
    batches = work.arbitrary if naive else work.grouped
    if stage == "logits":
        batches = [batch._replace(teacher_logits=torch.zeros(len(batch.labels))) for batch in batches]
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    idle = memory()["VmRSS"]
    for batch in batches:
        step(batch)
    peak = memory()["VmHWM"]
    print(json.dumps({"peak_mib": peak, "above_idle_mib": peak - idle}))


if __name__ == "__main__":
    main()
