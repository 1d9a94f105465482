"""Export: graphs and a trimmed vocabulary are kept where they rank as torch does; the card says how close each tool comes."""

from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean

import torch
from omegaconf import OmegaConf

from rankdistil.cli import console
from rankdistil.config.choices import each_test
from rankdistil.files import built, write_text
from rankdistil.inference.export_files import FITTED, choose, read_windows, weights, write_fitted, write_precisions
from rankdistil.inference.machine import processor
from rankdistil.inference.onnx import input_names, text_batches
from rankdistil.inference.write_graphs import put, remove, require_packages, staged, write_graphs
from rankdistil.metrics.fitted import ALONE, calibration, stored
from rankdistil.metrics.ranking import fit_validation, fused_values
from rankdistil.models.checkpoints import load_ranker, read_config
from rankdistil.models.vocabulary import TOKENISER, seen_tokens, trim
from rankdistil.report.document import calibration_sections
from rankdistil.report.graphs import CLOSE, Check, check_columns, put_chapter, write_checks
from rankdistil.report.tables import Column, print_plain, to_markdown, to_table
from rankdistil.runs.record import run_config
from rankdistil.stages import data as run_data
from rankdistil.stages.agreement import MEASURE, HeldOut, Reference, open_held_out, own_ways, tool_ways, trimmed_way
from rankdistil.stages.test import read_test, read_validation

CALIBRATION = 300  # validation pairs that 8-bit ranges are found on
CALIBRATION_TOKENS = 1024  # of one batch of them
TRIMMED = "_trimmed"


def export(folder: Path, run: Path, kinds: Collection[str], pairs: int, bound: float) -> None:
    """Write graphs into an export, compare all that it has with torch in float32, and say so in its model card.

    Args:
        folder: the export.
        run: gives the data.
        kinds: what to write, some of ``onnx``, ``openvino`` and ``int8``; ``int8`` alone writes no graph.
        pairs: of validation and of test that are scored, each at most.
        bound: largest change of the validation's nDCG@10 in bfloat16 and int8.

    Raises:
        ValueError: if a package is missing, or a graph exceeds its bound; it is removed.
    """
    require_packages(kinds)
    ranker = load_ranker(str(folder)).eval()
    data = open_held_out(run, str(folder), pairs, CALIBRATION)  # set apart for all, so that all are judged by the same pairs
    screen, reference = console(), Reference(ranker, data, bound)
    with staged(folder) as stage:
        batches = text_batches(data.others, data.encoder, CALIBRATION_TOKENS, input_names(ranker))
        written = write_graphs(ranker, kinds, stage, batches, weights(folder))
        ways, missing = own_ways(ranker, data.encoder, (stage, folder))
        checks, more = reference.compare(ways)
        unfit = {check.graph for check in checks if not check.passes and check.precision != "bfloat16"} - {None}
        kept = [name for name in written if name in {check.graph for check in checks} - unfit]
        for name in kept:
            put(stage, folder, name)
        for name in unfit:
            remove(folder, name)
    ways, lacking = tool_ways(folder)  # of the finished folder
    others, failing = reference.compare(ways)
    checks, missing = [reference.check, *checks, *others], [*missing, *more, *lacking, *failing]
    title = _keep(folder, data, checks, missing)
    screen.print(to_table(check_columns(checks), title))
    notes = [f"not checked: {each}" for each in missing]
    chosen = f"dtype=auto on this processor: {choose(str(folder), 'torch', torch.device('cpu'))}"
    print_plain(screen, [*notes, chosen, f"files: {folder}/  {'  '.join(kept)}"])
    failed = [check for check in checks if check.backend != "torch" and not check.passes]
    if failed:
        raise ValueError("\n".join(_told(check, reference.check, folder) for check in failed))


def export_trimmed(folder: Path, run: Path, pairs: int, bound: float) -> None:
    """Write an export again, beside itself, with the tokens of a run's collection and training queries alone.

    Args:
        folder: the export; the smaller one's name ends in ``_trimmed``.
        run: gives the data.
        pairs: of validation and of test that are scored with both, each at most.
        bound: largest change of the validation's nDCG@10.

    Raises:
        ValueError: if it exceeds its bound; the smaller export is removed.
    """
    data = open_held_out(run, str(folder), pairs, 0)
    reader = run_data.open_reader(run_config(run).data, "train")
    print(f"reading the tokens of {reader.label}", flush=True)
    seen = seen_tokens(data.encoder, chain((text for _, text in reader.passages()), reader.queries.values()))
    smaller = folder.with_name(f"{folder.name}{TRIMMED}")
    with built(smaller) as place:
        sizes = trim(folder, place, seen)
        (check,), _ = Reference(load_ranker(str(folder)).eval(), data, bound).compare([trimmed_way(place, data.encoder)])
        told = (
            f"Scores of {data.test.told()} differ by {check.largest:.2g} at most (tau {check.tau:.4f}); {MEASURE} of "
            f"validation by {check.valid.change:+.5f}, of the test by {check.test.change:+.5f}."
        )
        if abs(check.valid.change) > bound:
            raise ValueError(
                f"{told} Allowed in validation are {bound:g}: {smaller} isn't written. Allow more: bound=<number>."
            )
        rows = [Column("", ["tokens", "weights, MB", f"{TOKENISER}, MB"], text=True)]
        for name, size, of in zip(("before", "after"), sizes, (folder, place), strict=True):
            rows.append(Column(name, [f"{size:,}", *(f"{_megabytes(of, kind):.1f}" for kind in ("*.safetensors", TOKENISER))]))
        card = folder / "README.md"
        text = card.read_text(encoding="utf-8").rstrip("\n") if card.is_file() else f"# {smaller.name}"
        title = f"## Vocabulary\n\nCut down to the tokens of {reader.label}: other texts fall into more, shorter ones. {told}"
        write_text(place / "README.md", f"{text}\n\n{title}\n\n{to_markdown(rows)}")
    screen = console()
    screen.print(to_table(rows, "vocabulary"))
    print_plain(screen, [told, f"files: {smaller}/"])


SCORES = "## Scores"


def export_fitted(folder: Path, run: Path, wished: float) -> None:
    """Write into a run's export what its validation says of its scores, and into the model card how that holds on the test.

    Args:
        folder: the export.
        run: it belongs to.
        wished: precision that a threshold is to have.

    Raises:
        FileNotFoundError: if the run's validation isn't kept.
        ValueError: if it allows neither fusion nor probability, or has other candidates now.
    """
    cfg = run_config(run)
    run_data.fetch_data(OmegaConf.create({"data": each_test(cfg.data)[0]}), train=False, valid=True)
    valid, data = read_validation(run, {})
    fitted = fit_validation(valid, wished)
    name, test = data.task("valid").name, read_test(run, data)
    if fitted.fusions is None and fitted.platt is None:
        raise ValueError(f"{name} has no order to fuse with, and judgments of one kind alone. There is nothing to fit.")
    lines = [f"Fitted to {len(valid.qrels)} queries of {name} ({data.task('valid').first_stage}), scored by this ranker."]
    if fitted.fusions is not None:
        best = fitted.fusions.best
        told = [fmean(of.values()) for of in fused_values(valid, best, ALONE)]
        lines.append(
            f"Fusion with the first stage: {best}. {MEASURE} of these queries {told[0]:.4f}, without it {told[1]:.4f}."
        )
    sections = []
    if test is not None and (held := calibration(fitted, test)) is not None:
        lines.append(f"Probability, on {len(test.qrels)} queries of {data.task('test').name}:")
        sections = calibration_sections({"this ranker": held})
    write_fitted(folder, {"of": name, **stored(fitted)})
    tables = [f"{to_markdown(one.columns)}\n" + "".join(f"- {note}\n" for note in one.notes) for one in sections]
    put_chapter(folder, SCORES, "\n\n".join(lines) + "\n" + "".join(f"\n{table}" for table in tables))
    screen = console()
    for table in (table for section in sections for table in section.tables(screen.width)):
        screen.print(table)
    print_plain(screen, [*lines, *(note for section in sections for note in section.notes), f"files: {folder}/  {FITTED}"])


def _megabytes(folder: Path, pattern: str) -> float:
    return sum(file.stat().st_size for file in folder.glob(pattern)) / 1e6


def _keep(folder: Path, data: HeldOut, checks: Sequence[Check], missing: Sequence[str]) -> str:
    """Write a check's rows into the export and its model card; return what was scored."""
    title = f"{data.test.told()}, against torch in float32; kept by {data.valid.told()}"
    if read_windows(str(folder), read_config(str(folder))) is not None:
        title += "; documents are cut, not read in windows, as other tools do"
    rows = [
        {"backend": each.backend, "dtype": each.precision, "weight_bits": each.weight_bits, "ndcg": each.valid.ndcg,
         "change": each.valid.change, "test_ndcg": each.test.ndcg, "test_change": each.test.change, "tau": each.tau,
         "largest_difference": each.largest, "alone": each.alone, "sigmoid": each.sigmoid}
        for each in checks
    ]  # fmt: skip
    write_precisions(folder, rows, {"measure": MEASURE, "scored": title, "processor": processor(), "not_checked": [*missing]})
    write_checks(folder, checks, f"Scores of {title}. Computed on {processor()}.", missing)
    return title


def _told(check: Check, reference: Check, folder: Path) -> str:
    """Say what is wrong with a check's scores, and what to do."""
    if abs(check.valid.change) <= check.bound:
        text = f"{check.backend} {check.precision}: {check.apart}; allowed are {CLOSE:g}. "
    else:
        text = (
            f"{check.backend} {check.precision} changes the validation's {MEASURE} by {check.valid.change:+.5f} "
            f"({reference.valid.ndcg:.4f} -> {check.valid.ndcg:.4f}); allowed are {check.bound:g}. "
        )
    if check.equal is not None:
        text += f"All its scores are {check.equal:g}, as a softmax over the only label makes them. "
    if check.graph is None:
        return f"{text}{folder} stays as it is; don't rank with {check.backend} unless you change how it is called."
    if check.precision == "bfloat16":
        return f"{text}Its graph stays, for float32. Don't use dtype=bfloat16 with this ranker, or allow more: bound=<number>."
    removed = f"{folder / check.graph} was removed."
    if check.precision == "float32":
        return f"{text}{removed} The graph computes something else: please report it."
    return f"{text}{removed} Use another precision, or allow more: bound=<number>."
