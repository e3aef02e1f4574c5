"""Runs in processes of their own: what is skipped, shared, left to others and failed."""

import json

import filelock
import pytest

from paper.reproduce import execution
from paper.training import run_folder


def starts(executor, name):
    return len((executor.work / name / "starts").read_text())


def test_finished_runs_are_skipped_and_failed_ones_harm_no_other(executor, make_run, capfd):
    runs = [make_run("one"), make_run("two", "fail"), make_run("empty", "nothing"), make_run("three")]
    for attempt in (1, 2):
        assert sorted(executor.run_all(runs)) == ["empty", "two"]
        assert starts(executor, "one") == starts(executor, "three") == 1
        assert starts(executor, "two") == attempt
    assert sorted(path.name for path in executor.records.iterdir()) == ["one.json", "three.json"]
    record = json.loads((executor.records / "one.json").read_text())
    assert record["run"] == "one" and record["seed"] == 0 and record["command"].endswith("runs/one ok")
    assert "no luck" in (executor.work / "two" / "log.txt").read_text()
    said = capfd.readouterr().out
    assert "two: failed: exit code 1, see" in said
    assert "empty: failed: [Errno 2] No such file or directory" in said and "result.json" in said


@pytest.mark.parametrize(
    ("jobs", "runs", "threads"),
    # All cores are given away, and no more; what is left when others have ended goes to the last.
    [(8, 5, [1, 1, 2, 2, 2]), (3, 1, [3]), (8, 8, [1] * 8), (1, 2, [8, 8]), (16, 16, [1] * 16)],
)
def test_runs_share_all_cores(tmp_path, make_run, jobs, runs, threads):
    cores = max(threads) if runs == 1 else 8
    names = [f"run-{i}" for i in range(runs)]
    executor = execution.Executor(tmp_path / "records", tmp_path / "work", jobs=jobs, cores=cores)
    assert executor.run_all([make_run(name, "threads" if jobs == 1 else "together") for name in names]) == []
    given = [int((executor.work / name / "threads").read_text()) for name in names]
    assert sorted(given) == threads


def test_a_training_that_outlived_its_runner(executor, make_run, capfd):
    """It is at work in its folder, and the run has not failed."""
    with run_folder.alone(executor.work / "one"):
        assert executor.run_all([make_run("one")]) == []
    assert "left to the other process" in capfd.readouterr().out
    assert not list(executor.records.iterdir()) and not (executor.work / "one" / "starts").exists()


def test_two_executors_share_the_work(executor, make_run, capfd):
    (executor.work / "one").mkdir(parents=True)
    with filelock.FileLock(executor.work / "one" / "lock"):
        assert executor.run_all([make_run("one")]) == []
    assert "left to the other process" in capfd.readouterr().out
    assert not list(executor.records.iterdir())
