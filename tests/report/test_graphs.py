"""The table of an export's runtimes and precisions, in its model card."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from rankdistil.report.graphs import Check, Quality, check_columns, write_checks
from rankdistil.report.tables import to_table

REFERENCE = Check("torch", "float32", 0.0, 1.0, Quality(0.5, 0.0), Quality(0.6, 0.0), None)
CLOSE = Check("openvino", "int8", 0.0312, 0.98765, Quality(0.4, -0.1), Quality(0.595, -0.005), 0.01, 7)
FAR = Check("openvino", "int8", 2.0, 0.5, Quality(0.5, 0.0), Quality(0.5, -0.1), 0.01)


def test_the_card_keeps_its_text_and_gets_one_table(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# Title\n\n## Use\n\ncode\n")
    for checks in ([REFERENCE, FAR], [REFERENCE, CLOSE]):
        write_checks(tmp_path, checks, "Scores of 10 pairs.")
    assert card.read_text() == (
        "# Title\n\n## Use\n\ncode\n\n## Other runtimes and precisions\n\nScores of 10 pairs.\n\n"
        "| backend | dtype | largest difference | Kendall's tau | "
        "test nDCG@10 | change | validation nDCG@10 | change | bound |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| torch | float32 | 0 | 1.00000 | 0.5000 | +0.00000 | 0.6000 | +0.00000 | reference |\n"
        "| openvino | int8, 7-bit weights | 0.031 | 0.98765 | 0.4000 | -0.10000 | 0.5950 | -0.00500 | 0.01 |\n"
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
    assert [check.passes for check in (REFERENCE, CLOSE, FAR)] == [True, True, False]
    assert FAR.cells()[-2:] == ["-0.10000", "0.01 (exceeded)"]
    assert CLOSE._replace(valid=Quality(0.6, 0.01)).passes
    assert not CLOSE._replace(valid=Quality(0.6, 0.0100001)).passes


def test_no_number_is_cut_in_a_terminal_of_usual_width() -> None:
    console = Console(width=120, record=True, file=StringIO())
    console.print(to_table(check_columns([REFERENCE, CLOSE, FAR]), "Scores."))
    shown = console.export_text()
    assert all(cell in shown for check in (REFERENCE, CLOSE, FAR) for cell in check.cells()[2:])
    assert "…" not in shown
