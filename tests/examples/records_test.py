"""Files among the records: what is refused, and what is left out of the report."""

import json

import pytest

from paper.reproduce import execution, experiments, planning, records, report
from tests.helpers.finished_runs import record

MIN_EXP, REFERENCE = experiments.MIN_EXP, experiments.REFERENCE

SHORT = planning.SCHEDULES["short"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"run": "one", ', r"one.json is not JSON \(.*\). Remove it, and its run is made again."),
        ("[1]", r"record of a finished run 'one' in .*one.json. Received: JSON without \['command', 'run', .*another"),
        ('{"run": "two", "command": "", "seed": 0, "training_seconds": 1}', "Received: JSON of run 'two'. Move it"),
    ],
)
def test_what_is_no_record(tmp_path, make_run, content, said):
    """It is neither taken for a finished run nor reported."""
    (tmp_path / "one.json").write_text(content)
    with pytest.raises(records.RecordError, match=said):
        records.read_records(tmp_path)
    with pytest.raises(records.RecordError, match=said):
        execution.Executor(tmp_path, tmp_path / "work", jobs=1, cores=1).run_all([make_run("one")])


def test_settings_that_have_changed(executor, make_run, tmp_path):
    """A record of the same name but by another command is neither taken for this run's nor reported."""
    assert executor.run_all([make_run("one")]) == []
    with pytest.raises(records.RecordError, match=r"(?s)record one to be of.*one longer\nReceived:.*one ok\nRemove it"):
        executor.run_all([make_run("one", "longer")])
    old = record(experiments.Cell(MIN_EXP), 0, 1.0, 1.0)
    old["command"] = old["command"].replace("--c=2.0", "--c=1.0")
    path = tmp_path / f"{old['run']}.json"
    path.write_text(json.dumps(old))
    with pytest.raises(records.RecordError, match=r"(?s)--c=2.0 .*Received:.*--c=1.0 "):
        report.write(tmp_path, tmp_path / "page.md", tmp_path / "images", SHORT)
    assert not (tmp_path / "page.md").exists() and not (tmp_path / "images").exists()


def test_a_record_that_is_not_whole(tmp_path):
    one = record(experiments.Cell(REFERENCE), 0, 2.0, 0.8)
    del one["margin_mean"]
    (tmp_path / f"{one['run']}.json").write_text(json.dumps(one))
    with pytest.raises(records.RecordError, match=r"seed-0 to have error_percent, margin_mean.*: none of margin_mean"):
        report.write(tmp_path, tmp_path / "page.md", tmp_path / "images", SHORT)
    assert not (tmp_path / "page.md").exists()


def test_a_record_of_no_table_is_left_out(tmp_path, capsys):
    stranger = {"run": "mlp-800.other.epochs-30.seed-0", "command": "", "seed": 0, "training_seconds": 36000.0}
    for one in (record(experiments.Cell(REFERENCE), 0, 2.0, 0.8), stranger):
        (tmp_path / f"{one['run']}.json").write_text(json.dumps(one))
    report.write(tmp_path, tmp_path / "page.md", tmp_path / "images", SHORT)
    assert "Left out, of no table or figure: mlp-800.other.epochs-30.seed-0" in capsys.readouterr().out
    assert "1 runs, 0.5 hours of training" in (tmp_path / "page.md").read_text()
