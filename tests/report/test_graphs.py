"""The matrix of an export's tools and precisions, in its model card."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from rankdistil.report.graphs import LEGEND, Check, Quality, check_columns, write_checks
from rankdistil.report.tables import to_table

REFERENCE = Check("torch", "float32", 0.0, 1.0, Quality(0.5, 0.0), Quality(0.6, 0.0), None)
CLOSE = Check("openvino", "int8", 0.0312, 0.98765, Quality(0.4, -0.1), Quality(0.595, -0.005), 0.01, 7, "g.xml", 2e-7)
FAR = Check("openvino", "int8", 2.0, 0.5, Quality(0.5, 0.0), Quality(0.5, -0.1), 0.01, 8)
TOOL = Check("FlashRank 0.2.10", "float32", 1e-6, 1.0, Quality(0.5, 0.0), Quality(0.6, 0.0), 1e-4, sigmoid=True)
EVERY = (REFERENCE, CLOSE, FAR, TOOL)


def test_the_card_keeps_its_text_and_gets_one_table_and_what_was_not_checked(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# Title\n\n## Use\n\ncode\n")
    for checks in ([REFERENCE, FAR], [REFERENCE, CLOSE, TOOL]):
        write_checks(tmp_path, checks, "Scores of 10 pairs.", ["fastembed: not installed"])
    assert card.read_text() == (
        "# Title\n\n## Use\n\ncode\n\n## Other runtimes and precisions\n\nScores of 10 pairs.\n\n"
        "| backend | dtype | largest difference | alone | Kendall's tau | test nDCG@10 | validation nDCG@10 | bound |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| torch | float32 | 0 | 0 | 1.00000 | 0.5000 | 0.6000 | reference |\n"
        "| openvino | int8, 7-bit weights | 0.031 | 2e-07 | 0.98765 | -0.10000 | -0.00500 | 0.01 |\n"
        "| FlashRank 0.2.10 | float32, sigmoid | 1e-06 | 0 | 1.00000 | +0.00000 | +0.00000 | 0.0001 |\n"
        f"\n{LEGEND}\n\n- Not checked: fastembed: not installed\n"
    )


def test_what_follows_an_older_table_stays(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    write_checks(tmp_path, [REFERENCE], "Scores.")
    card.write_text(card.read_text() + "\n## Notes\n\nmine\n")
    write_checks(tmp_path, [REFERENCE], "Scores again.")
    text = card.read_text()
    assert text.startswith(f"# {tmp_path.name}\n\n## Notes\n\nmine\n\n## Other runtimes and precisions\n\nScores again.\n")
    assert "Scores.\n" not in text


def test_validation_decides_whether_a_bound_holds_whatever_the_test_says() -> None:
    assert [check.passes for check in EVERY] == [True, True, False, True]
    assert FAR.cells()[-2:] == ["-0.10000", "over 0.01"]
    assert CLOSE._replace(valid=Quality(0.6, 0.01)).passes
    assert not CLOSE._replace(valid=Quality(0.6, 0.0100001)).passes


def test_in_float32_scores_are_close_and_but_for_bfloat16_a_score_has_no_neighbours() -> None:
    far = TOOL._replace(largest=0.0011)
    assert not far.passes
    assert far.apart == "a score is 0.0011 off the sigmoid of torch's"
    assert far._replace(sigmoid=False).apart == "a score is 0.0011 off torch's"
    beside = CLOSE._replace(alone=0.0011)
    assert not beside.passes
    assert beside.apart == "a pair alone scores 0.0011 off what it scores among others"
    assert beside._replace(precision="bfloat16").passes


def test_no_number_is_cut_in_a_terminal_of_usual_width() -> None:
    console = Console(width=120, record=True, file=StringIO())
    console.print(to_table(check_columns(EVERY), "Scores."))
    shown = console.export_text()
    assert all(cell in shown for check in EVERY for cell in [check.backend, *check.cells()[2:]])
    assert "…" not in shown
