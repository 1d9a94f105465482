"""Triples on disk: an epoch reads them all and keeps none of them."""

from pathlib import Path

import numpy as np

from rankdistil.data.groups import BLOCK, ListedGroups


def test_an_epoch_leaves_nothing_of_the_file_in_memory(tmp_path):
    path, count = tmp_path / "rows.bin", 20 * BLOCK + 5
    np.arange(3 * count, dtype=np.int32).tofile(path)
    groups = ListedGroups(np.memmap(path, np.int32, "r", shape=(count, 3)))
    rows = np.concatenate(list(groups.epoch(0, 0)))
    assert np.array_equal(rows[rows[:, 0].argsort()], np.arange(3 * count).reshape(count, 3))
    lines = Path("/proc/self/smaps").read_text().splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.endswith(str(path)))
    assert next(line.split()[1] for line in lines[start:] if line.startswith("Rss:")) == "0"
