"""Records are made once, seed by seed, and a run that was stopped goes on."""

import json

import pytest
from absl import app, flags

from benchmarks import recorded_trainings


@pytest.fixture
def told(monkeypatch, tmp_path):
    """The flags of a program that was called with two seeds and a folder."""
    values = flags.FlagValues()
    flags.DEFINE_list("seeds", ["0", "3"], "", flag_values=values)
    flags.DEFINE_string("records", str(tmp_path / "records"), "", flag_values=values)
    flags.DEFINE_integer("threads", 1, "", flag_values=values)
    values.mark_as_parsed()
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(recorded_trainings.threads, "set_as_told", lambda: None)
    return tmp_path / "records"


def test_records_are_made_once_and_resumed(told, capsys):
    made = []

    def train(cell, way, seed):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append((seed, cell, way))
        return {"error": 10.0 * seed}

    choices = {"cell": ["b", "a"], "way": ["plain"]}
    arguments = (["program"], choices, train, lambda found: f"error {found['error']}")
    with pytest.raises(KeyboardInterrupt):
        recorded_trainings.make(*arguments)
    assert made == [(0, "b", "plain"), (0, "a", "plain"), (3, "b", "plain")]
    assert capsys.readouterr().out.splitlines()[2] == "b.plain.seed-3: error 30.0"
    made.clear()
    found = recorded_trainings.make(*arguments)
    assert made == [(3, "a", "plain")]
    assert [(record["cell"], record["seed"], record["error"]) for record in found] == [
        ("a", 0, 0.0), ("a", 3, 30.0), ("b", 0, 0.0), ("b", 3, 30.0)
    ]  # fmt: skip
    record = json.loads((told / "a.plain.seed-3.json").read_text())
    assert record["way"] == "plain" and record["threads"] == 1 and "revision" in record["versions"]


def test_wrong_arguments_end_the_program(told):
    def refuse(**chosen):
        raise ValueError("No such rate.")

    with pytest.raises(app.UsageError, match="extra"):
        recorded_trainings.make(["program", "extra"], {}, refuse, str)
    with pytest.raises(SystemExit, match=r"No such rate\."):
        recorded_trainings.make(["program"], {"cell": ["a"]}, refuse, str)
    with pytest.raises(SystemExit, match=r"Expected of a, b\. Received: --ways=c\."):
        recorded_trainings.require_known("ways", ["a", "c"], ["a", "b"])


def test_mean():
    assert recorded_trainings.mean([2.0, 4.0], 2, "%") == "3.00% ± 1.41" and recorded_trainings.mean([2.0], 1) == "2.0"
