"""What is run for the tables and figures: which cells, with which settings, each once."""

import pytest
from absl import flags

from paper.reproduce import experiments, planning
from paper.training import settings, table_2

MIN_EXP, REFERENCE = experiments.MIN_EXP, experiments.REFERENCE

SHORT = planning.SCHEDULES["short"]


def test_protocol():
    """The paper's schedule, and the short one in proportion."""
    runs = planning.plan(["table1"], seeds=5, schedule=planning.SCHEDULES["paper"])
    assert len(runs) == 7 * 5
    last = runs[-1].command
    assert {"--epochs=100", "--drop_at=50,80", "--drop_to=0.1,0.01", "--seed=4"} <= set(last)
    assert {"--aggregation=min", "--shrinkage=exp", "--strength=32.0", "--c=2.0", "--d=1.0"} <= set(last)
    assert not any("screening" in flag for run in runs for flag in run.command)
    short = planning.plan(["table1"], seeds=1, schedule=SHORT)
    assert all("--drop_at=15,24" in run.command for run in short)
    # Only MIN can leave samples out.
    assert all(("--screening=0.3" in run.command) == ("--aggregation=min" in run.command) for run in short)


def test_a_shared_run_is_made_once():
    names = [run.name for run in planning.plan(["table1", "figure2", "table2", "figure3"], seeds=2, schedule=SHORT)]
    assert len(names) == len(set(names)) == 2 * 10
    # The first seed of everything comes first.
    assert all(name.endswith("seed-0") for name in names[:10])
    # All images is the run of the tables.
    (run,) = planning.plan(["figure4"], seeds=1, schedule=SHORT, arms=["min-exp"], values=[60_000])
    assert run.name in names


def test_appendix_table_1():
    rows = {
        "avg-lin": (1, 4, 4), "avg-inv": (32, 4, 2), "avg-exp": (32, 2, 2),
        "min-lin": (1, 0.5, 4), "min-inv": (32, 1, 0.5), "min-exp": (32, 2, 1),
    }  # fmt: skip
    arms = {cell.arm.name: cell.arm.settings for cell in experiments.EXPERIMENTS["table1"].cells}
    assert {name: tuple(arms[name][key] for key in ("strength", "c", "d")) for name in rows} == rows
    # Beside it, each with the other's c, and one with its own c and d in each other's place.
    exchanged = {cell.arm.name: cell.arm.settings for cell in experiments.EXPERIMENTS["exchanged"].cells}
    assert exchanged == {
        "avg-lin-exchanged": {**arms["avg-lin"], "c": 0.5},
        "min-lin-exchanged": {**arms["min-lin"], "c": 4.0},
        "min-lin-swapped": {**arms["min-lin"], "c": 4.0, "d": 0.5},
    }


def test_rates_are_six_times_table_3s():
    of_rates, of_table_3 = (
        {run.name: run.command for run in planning.plan([name], seeds=1, schedule=SHORT)}
        for name in ("rates", "table3")
    )
    assert len(of_rates) == 6
    for name, command in of_rates.items():
        assert set(command) - set(of_table_3[name.replace("-faster", "")]) == {"--learning_rate=0.03"}
    for network in ("mlp-800", "lenet-mnist"):
        assert 6 * table_2.TABLE_2["mnist"][network].learning_rate == pytest.approx(0.03)


@pytest.mark.usefixtures("own_flags")
def test_all_flags_are_the_scripts():
    """Every command line of every experiment is one that the trainer takes."""
    settings.define_flags(list(table_2.TABLE_2["mnist"]), out="")
    for run in planning.plan(experiments.EXPERIMENTS, 1, planning.SCHEDULES["short"]):
        flags.FLAGS.unparse_flags()
        flags.FLAGS(list(run.command))
        settings.resolve("mnist", settings.given_flags())


@pytest.mark.parametrize("some", [{"arms": ["min-cube"]}, {"values": [7]}, {"networks": ["lenet"]}])
def test_what_is_not_part_of_a_figure(some):
    with pytest.raises(ValueError, match=r"The .* to choose from are \[.* Received: \["):
        planning.select(["figure5"], **some)


def test_choice_among_several():
    """What one of them lacks is chosen among the others."""
    cells = planning.select(["table1", "figure5"], arms=["elsayed"], values=[5_000])
    assert [(cell.arm.name, cell.num_random_labels) for cell in cells] == [("elsayed", 5_000)]
    plan = planning.plan(["figure1", "table1"], 2, SHORT, arms=["reference"])
    assert [run.name for run in plan] == [f"mlp-800.reference.epochs-30.seed-{seed}" for seed in (0, 1)]


def test_figure_1_by_two_rules():
    plan = planning.plan(["figure1"], 2, SHORT)
    rules = ("figure1", "figure1.all-wrong")
    assert [run.name for run in plan] == [f"{rule}.seed-{seed}" for seed in (0, 1) for rule in rules]
    assert ["--misclassified=all" in run.command for run in plan] == 2 * [False, True]
