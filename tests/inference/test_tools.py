"""Others' tools that are installed score an export as it scores itself: long pairs, one alone, several queries."""

import math
from pathlib import Path

import pytest
from support import uneven_ranker

from rankdistil import Reranker
from rankdistil.data.records import Pair
from rankdistil.inference.export_files import weights, write_export
from rankdistil.inference.tools import TOOLS, Tool
from rankdistil.inference.write_graphs import write_graphs

TEXTS = ["wings beat fast", "", "honey " * 40, "a queen lays eggs in the hive", "apples fall"] * 8
PAIRS = [Pair(query, str(at), query, text) for query in ("how do bees fly", "fruit " * 50) for at, text in enumerate(TEXTS)]
SIGMOIDS = ("FlashRank",)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an export of a small ranker; its graph, too, where the packages are there."""
    folder = tmp_path_factory.mktemp("tools") / "export"
    ranker, tokenizer = uneven_ranker(2)
    write_export(folder, ranker, tokenizer, 38)
    try:
        write_graphs(ranker, {"onnx"}, folder, [], weights(folder))
    except ValueError:
        return folder
    return folder


@pytest.mark.filterwarnings("default")  # theirs
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.package)
def test_a_tool_gives_the_export_s_own_scores(export: Path, tool: Tool) -> None:
    if tool.version is None or not (export / tool.reads).is_file():
        pytest.skip(f"{tool.name} is not installed, or what writes {tool.reads}")
    pairs = [pair for pair in PAIRS if pair.passage or tool.package != "transformers"]  # whose pipeline takes "" for no passage
    logits = Reranker(export, device="cpu").score((pair.query, pair.passage) for pair in pairs)
    expected = [1 / (1 + math.exp(-logit)) for logit in logits] if tool.name in SIGMOIDS else logits
    assert max(expected) - min(expected) > 0.01
    score = tool.opened(export)
    assert score(pairs) == pytest.approx(expected, abs=1e-5)
    assert score(pairs[2:3]) == pytest.approx(expected[2:3], abs=1e-5)


def test_a_tool_that_is_not_installed_has_no_version() -> None:
    assert Tool("other", "no-such-package-anywhere", lambda export: lambda pairs: []).version is None
