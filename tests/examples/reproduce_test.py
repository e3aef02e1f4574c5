"""The script that reproduces the paper's findings: its command line, and how it is stopped."""

import json
import re
import signal
import subprocess
import sys
import time

import filelock
import pytest

import reproduce
from paper.reproduce import experiments, planning
from tests.helpers.finished_runs import record

MIN_EXP, REFERENCE = experiments.MIN_EXP, experiments.REFERENCE

SHORT = planning.SCHEDULES["short"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path, make_run, ending):
    """Ctrl-C, a kill and the end of the terminal end the processes at once and leave no record."""
    program = (
        "import signal\nimport reproduce\nfrom paper.reproduce import planning\n"
        # Background processes of a shell may have been started deaf to them.
        "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        f"long = planning.Run('long', {make_run('long', 'wait').command!r})\n"
        "reproduce.plan = lambda *names, **some: [long, long]\n"
        f"folders = ['--records={tmp_path}/records', '--work={tmp_path}/work']\n"
        "reproduce.app.run(reproduce.main, ['reproduce', 'table1', '--jobs=1', *folders])\n"
    )
    paths = [str(planning.EXAMPLES), str(planning.EXAMPLES.parent)]
    code = f"import sys; sys.path[:0] = {paths}\n{program}"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    started = tmp_path / "work" / "long" / "starts"
    while not started.exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    process.send_signal(ending)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert b"Stopped. Start again to continue." in errors and process.returncode
    assert not list((tmp_path / "records").iterdir())
    # Nobody is at it any more.
    filelock.FileLock(tmp_path / "work" / "long" / "lock", timeout=5).acquire().lock.release()
    assert started.read_text() == "x"


def test_the_end_of_the_terminal_under_nohup(monkeypatch):
    handlers = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_IGN}
    monkeypatch.setattr(signal, "getsignal", handlers.get)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    reproduce._end_runs_with_the_runner()
    assert handlers == {signal.SIGTERM: signal.default_int_handler, signal.SIGHUP: signal.SIG_IGN}


def test_list(tmp_path):
    """It says what is there, and refuses what has other settings."""
    one = record(experiments.Cell(REFERENCE), 0, 2.0, 0.8)
    path = tmp_path / f"{one['run']}.json"
    script = planning.EXAMPLES / "reproduce.py"
    arguments = ["table1", "--arms=reference", "--seeds=2", "--schedule=short", "--list", f"--records={tmp_path}"]

    def listed():
        return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)

    path.write_text(json.dumps(one))
    assert listed().stdout.splitlines() == [
        "finished mlp-800.reference.epochs-30.seed-0",
        "missing  mlp-800.reference.epochs-30.seed-1",
    ]
    path.write_text(json.dumps({**one, "command": "python other.py"}))
    assert "Received:\n  python other.py\nRemove it" in listed().stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table9"], "Unknown: table9. Expected of figure1, table1"),
        (["figure5", "--values=many"], "Expected integers in --values. Received: many"),
        (["figure1", "--arms=min-exp"], r"There are no arms to choose from. Received: \['min-exp'\]"),
        (["table1", "--epochs=2"], "--epochs=2"),
        (["table1", "--screening=0"], "--screening=0"),
        (
            ["table2", "figure5", "--arms=masked", "--values=5000"],
            "There is no place that has all of it. Received: arms",
        ),
        (["report", "--list"], "--list goes without report"),
        (["report", "--arms=reference"], "report shows all records"),
        (["report", "--records=missing"], "There is no folder missing: name that of the records with --records."),
    ],
)
def test_wrong_arguments(tmp_path, arguments, said):
    script = planning.EXAMPLES / "reproduce.py"
    done = subprocess.run([sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and re.search(said, done.stdout + done.stderr), done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
