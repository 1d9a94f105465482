"""A German collection of the user's own trains and ranks, its words stemmed as German ones."""

from pathlib import Path

import pytest
from commands import command

from rankdistil.data.collections.reader import Reader
from rankdistil.data.files.folder import FolderSplit
from rankdistil.metrics.ranking import per_query
from rankdistil.report.results import read_first_stage

TEXTS = """\
Die Bäckerei am Markt verkauft morgens frische Brötchen und am Nachmittag Kuchen.
In alten Häusern knarren nachts die Treppen, weil das Holz sich beim Abkühlen zusammenzieht.
Bienen fliegen aus, sobald es wärmer als zehn Grad ist, und sammeln Nektar für den Honig.
Der Zug nach Hamburg fährt jede Stunde vom dritten Gleis ab.
Kartoffeln wachsen unter der Erde und werden im Herbst gegraben.
Bei Gewitter sucht man keinen Schutz unter einzelnen Bäumen.
Katzen schlafen bis zu sechzehn Stunden am Tag.
Ein Leuchtturm warnt die Schiffe vor den Felsen an der Küste.
Die Geige hat vier Saiten, die mit einem Bogen gestrichen werden.
Äpfel lagern am besten kühl und dunkel, getrennt von anderem Obst.
Gletscher schieben Steine vor sich her und hinterlassen Seen.
Im Winter streut die Gemeinde Salz, damit die Straßen nicht vereisen.
Der Bäcker knetet den Teig und lässt ihn über Nacht gehen.
Schwalben ziehen im September nach Afrika und kehren im April zurück.
Eine Brille hilft, wenn das Auge nahe Dinge nicht mehr scharf stellt.
Mühlen mahlten das Getreide mit der Kraft von Wind oder Wasser.
Das Museum zeigt Bilder von Malern aus drei Jahrhunderten.
Pilze erscheinen nach warmem Regen und verschwinden beim ersten Frost.
Der Fährmann bringt die Wanderer über den breiten Fluss.
Mit Hefe wird Brot locker, mit Sauerteig hält es länger frisch.
Im Garten blühen Rosen von Juni bis zum ersten Frost.
Ein Kompass zeigt nach Norden, solange kein Eisen in der Nähe ist.
Die Feuerwehr übt jeden Dienstag an einem alten Turm.
Schnecken fressen nachts den Salat und verstecken sich am Tag.
"""
QUESTIONS = """\
1\twann fliegt eine Biene am Tag
5\tsoll man bei Gewittern unter einen Baum im Garten
6\twie viele Stunden schläft eine Katze am Tag
7\twozu dienen Leuchttürme an einer Küste bei Nacht
8\twie viele Saiten haben Geigen aus Holz
9\two lagert ein Apfel im Winter
11\twarum wird Salz auf eine Straße gestreut bei Frost
13\twohin zieht eine Schwalbe im Herbst
15\twas mahlt eine Mühle am Tag
17\twann erscheint ein Pilz im Herbst
20\twann blüht eine Rose im Winter
21\twohin zeigen Kompasse im Museum
23\twas frisst eine Schnecke im Garten
"""
TESTS = """\
0\two gibt es frischen Kuchen
1\twarum knarrt eine Treppe in einem Haus
10\twas hinterlässt ein Gletscher
18\twer fährt einen Wanderer über Flüsse
"""
ANSWERS = {"train": [2, 5, 6, 7, 8, 9, 11, 13, 15, 17, 20, 21, 23], "test": [0, 1, 10, 18]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus.tsv").write_text("".join(f"t{at}\t{text}\n" for at, text in enumerate(TEXTS.splitlines())))
    for split, text in ("train", QUESTIONS), ("test", TESTS):
        lines = [f"{split[1]}{line}" for line in text.splitlines()]
        (tmp_path / f"queries.{split}.tsv").write_text("\n".join(lines) + "\n")
        ids = [line.split("\t")[0] for line in lines]
        judged = [f"{query} 0 t{answer} 1\n" for query, answer in zip(ids, ANSWERS[split], strict=True)]
        (tmp_path / f"qrels.{split}.txt").write_text("".join(judged))
    return tmp_path


def test_german_files_are_ranked_by_german_stems_and_the_card_says_german(folder: Path) -> None:
    words = ["+experiment=finetune_6l", "scale=smoke", "student=2l", "data=files", "data.holdout=3", "data.batch_size=2"]
    done = command("train.py", *words, f"data.root={folder}", "data.language=de", f"paths.runs={folder / 'runs'}", cwd=folder)
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in folder.glob("runs/*/*/*/run.json"))
    assert "\nlanguage: de\n" in (run / "export" / "README.md").read_text()
    by_query = {query: row["nDCG@10"] for query, row in read_first_stage(run).per_query.items()}
    assert by_query.keys() == {"e0", "e1", "e10", "e18"}
    assert min(by_query.values()) > 0.6
    test = FolderSplit(str(folder), "corpus.tsv", "queries.test.tsv", "qrels.test.txt")
    english = per_query(Reader(test, language="en").candidates(20), Reader(test).qrels)
    assert sum(row["nDCG@10"] for row in english.values()) < sum(by_query.values()) - 0.5
