"""The page of every cell of the paper: the paper's numbers, the verdicts, and that it is up to date."""

import collections
import json

import pytest

from paper.reproduce import experiments, paper_cells, paper_page, planning, verdicts
from paper.reproduce.paper_values import Paper, printed, rows
from paper.training.table_2 import TABLE_2
from tests.helpers.finished_runs import record

ROOT = planning.EXAMPLES.parent
MIN_EXP, REFERENCE = experiments.MIN_EXP, experiments.REFERENCE


@pytest.fixture(scope="module")
def found():
    return paper_cells.entries(ROOT / "results")


def test_the_page_is_what_the_script_makes(found):
    page = ROOT / "docs" / "results" / "beside_the_paper.md"
    assert page.read_text() == paper_page.render(found), "Run python examples/beside_the_paper.py."


def test_the_readme_quotes_its_count(found):
    readme = (ROOT / "README.md").read_text()
    assert paper_page.sentence(found) in readme and paper_page.quoted(readme, found) == readme
    old = "It has\n**Of the paper's 9 cells 8 are\nfilled**. 3 are open. The rest is open."
    assert paper_page.quoted(old, found) == f"It has\n{paper_page.sentence(found)} The rest is open."


def test_numbers_of_the_paper():
    """As many rows as its tables have, and what its text says of them."""
    sizes = collections.Counter(row.place for row in rows())
    tables = {"Table 1": 7, "Table 2": 4, "Table 3": 14, "Table 4": 18, "Table 5": 17, "Table 6": 13, "Table 7": 6}
    assert sizes == {**tables, "Figure 4": 5, "Figure 5": 2}
    # "relative improvements of 49%, 35%, and 19% on MLP, LeNet, and LiuNet", as they are cut off.
    for network, percent in (("mlp-800", 49), ("lenet-mnist", 35), ("liunet-mnist", 19)):
        before, after = (printed("Table 3", arm, network).error for arm in ("reference", "min-exp"))
        assert int(100 * (before - after) / before) == percent
    # "consistent": each network of Tables 3 to 7 has fewer errors and a larger margin with AMM.
    for place in list(tables)[2:]:
        pairs = {row.model: row.paper for row in rows() if row.place == place and row.arm == "reference"}
        assert len(pairs) == 6 if place in ("Table 4", "Table 5", "Table 6") else len(pairs) == 3
        for model, reference in pairs.items():
            ours = printed(place, "min-exp", model)
            assert ours.error < reference.error and ours.margin > reference.margin


def test_rows_have_networks_and_trainings():
    arms = {cell.arm.name for experiment in experiments.EXPERIMENTS.values() for cell in experiment.cells}
    for row in rows():
        assert row.arm in arms
        data_set = paper_cells._DATA_SETS.get(row.place, "mnist")
        assert row.model in TABLE_2[data_set] or row.network in ("VGG-16", "VGG16")


@pytest.mark.parametrize(
    ("paper", "deviation", "bound", "ours", "kind"),
    [
        (0.90, 0.03, "", 0.96, "as in the paper"),
        (0.90, 0.03, "", 0.9649, "as in the paper"),
        (0.90, 0.03, "", 0.97, "open"),
        (0.90, 0.03, "", 0.83, "open"),
        (1.90, None, "", 1.786, "near"),
        (1.07, None, "", 1.348, "open"),
        (10.0, None, "<", 8.49, "as in the paper"),
        (10.0, None, "<", 32.97, "open"),
        (40.0, None, ">", 52.41, "as in the paper"),
        (0.90, 0.03, "", None, "not run"),
    ],
)
def test_verdicts(paper, deviation, bound, ours, kind):
    assert verdicts.judge(paper, deviation, bound, ours).kind == kind


def sweep(*runs):
    """The entries of Figure 4 that were run, by training."""
    records = {one["run"]: {**one, "epochs": len(one["history"])} for one in runs}
    found = paper_cells._of_sweep("Figure 4", experiments.EXPERIMENTS["figure4"], records)
    return {entry.names[1]: entry for entry in found if entry.ours}


def cell(arm, number=5_000):
    return experiments.Cell(arm, num_train=number)


def test_points_of_which_only_the_order_is_known():
    as_said = sweep(record(cell(REFERENCE), 0, 6.6, 0.8), record(cell(MIN_EXP), 0, 3.6, 1.1))
    assert {entry.verdicts[0].kind for entry in as_said.values()} == {"as in the paper"}
    reversed_ = sweep(record(cell(REFERENCE), 0, 3.0, 0.8), record(cell(MIN_EXP), 0, 3.6, 1.1))
    assert {entry.verdicts[0] for entry in reversed_.values()} == {("differs", "30 of 100 epochs")}
    # The default stands in the report beside the paper's trainings, and fills none of the paper's cells.
    assert not sweep(record(cell(experiments.OURS), 0, 3.0, 1.2))
    # Another length, and another place, are nothing to compare it with.
    alone = sweep(
        record(cell(REFERENCE), 0, 6.6, 0.8, epochs=100),
        record(cell(MIN_EXP), 0, 3.6, 1.1),
        record(cell(experiments.MASKED, 10_000), 0, 9.0, 1.0),
    )
    assert {entry.verdicts[0] for entry in alone.values()} == {("open", "nothing to compare it with")}


def test_the_longest_training_counts():
    """Of several of that length, the one with more seeds."""
    table = [record(experiments.Cell(MIN_EXP), 0, 1.5, 1.0, epochs=100)]
    table += [record(experiments.Cell(MIN_EXP), seed, 0.9, 1.9, epochs=100, screening=None) for seed in (0, 1)]
    table += [record(experiments.Cell(MIN_EXP), seed, 2.0, 1.9) for seed in range(3)]
    records = {one["run"]: {**one, "epochs": len(one["history"])} for one in table}
    ours = paper_cells._ours(paper_cells._best(records, experiments.Cell(MIN_EXP)))
    assert (ours.epochs, ours.seeds, ours.error, ours.error_deviation) == (100, 2, 0.9, 0.0)


def test_files_of_several_seeds_are_one_cell(tmp_path):
    for seed, (error, margin, epochs) in enumerate([(20.0, 0.25, 40), (21.0, 0.35, 30)]):
        saved = {"error_percent": error, "margin_mean": margin, "epochs": epochs}
        (tmp_path / f"{seed}.json").write_text(json.dumps(saved))
    ours = paper_cells._of_files(tmp_path, ("0.json", "1.json"), 20)
    assert ours == (20.5, pytest.approx(0.5**0.5), pytest.approx(0.3), pytest.approx(0.005**0.5), 50, 2, ours.runs)
    assert paper_cells._of_files(tmp_path, ("0.json",), 0)[1:4] == (None, 0.25, None)
    assert paper_cells._of_files(tmp_path, (), 0) is None


def test_causes():
    """A training that is shorter than the paper's differs for that; at its length it is open."""
    ours = paper_cells.Ours(1.2, None, 1.0, None, 30, 1, ("one",))
    judged = (verdicts.Verdict("open"), verdicts.Verdict("near"))
    entry = paper_cells.Entry("Table 3", ("a", "b"), Paper(0.9, 0.03, 1.0), "", ours, 100, judged)
    assert paper_cells._with_causes(entry, "min-exp").verdicts == (("differs", "30 of 100 epochs"), ("near", ""))
    assert paper_cells._with_causes(entry, "elsayed").verdicts[0].reason.startswith("30 of 100 epochs, weight and")
    long = entry._replace(ours=ours._replace(epochs=100))
    assert paper_cells._with_causes(long, "min-exp").verdicts == judged


def test_counts(found):
    """The sums of the page's first table are those of its sentence."""
    kinds = [verdict.kind for entry in found for verdict in entry.verdicts]
    text = paper_page.sentence(found)
    assert f"Of the paper's {len(kinds)} cells {len(kinds) - kinds.count('not run')} are filled" in text
    assert len(kinds) - kinds.count("not run") >= 45
    # An error and, where the paper gives one, a margin; of Figures 4 and 5 four and three trainings at twelve places.
    sizes = collections.Counter(entry.place for entry in found for _ in entry.verdicts)
    assert (sizes["Table 3"], sizes["Figure 1"], sizes["Figure 4"], sizes["Figure 5"]) == (14 + 6, 6, 48, 36)


def test_points_that_were_not_run_are_one_row(found):
    """No point of a figure is lost, and none is shown twice."""
    for place in ("Figure 4", "Figure 5"):
        group = [entry for entry in found if entry.place == place]
        rows_shown = paper_page._without_repetition(group)
        shown = [(value, entry.names[1]) for entry in rows_shown for value in entry.names[0].split(", ")]
        assert sorted(shown) == sorted(entry.names for entry in group)
        assert sum(entry.ours is None for entry in rows_shown) <= 4 < len(rows_shown) < len(group)
