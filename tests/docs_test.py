"""The code of the documentation: every block of every page runs, in the order of the page."""

import ast
import os
import pathlib
import re
import shlex
import subprocess
import sys

import keras
import matplotlib.pyplot
import pytest
import tensorflow as tf
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

import keras_amm.cli

ROOT = pathlib.Path(__file__).parent.parent
# The pages of results say how hours of training are repeated.
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "results")
TUTORIAL = ROOT / "docs" / "tutorial.md"
# Each block is a script: a process can have one strategy only.
SCRIPTS = ("several_gpus.md",)
# With graphs, as users run them. They take long to trace and are traced by many tests of their own, so that the
# functions of all other pages run without.
IN_GRAPHS = ("tutorial.md", "optimizers.md", *SCRIPTS)
# What a block may be written in; a block that is not to run is of no language, or is skipped with its reason.
LANGUAGES = ("python", "bash", "text")
PATIENCE = 300


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder to write to that looks like a clone of the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    policy = keras.config.dtype_policy()
    yield tmp_path
    keras.config.set_dtype_policy(policy)
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL], ids=lambda page: page.stem)
def test_page(page, clone):
    tf.config.run_functions_eagerly(page.name not in IN_GRAPHS)
    try:
        _run(page)
    finally:
        tf.config.run_functions_eagerly(False)


def test_tutorial_ends_with_a_better_classifier(clone):
    names = _run(TUTORIAL)
    assert names["after"].error < names["before"].error
    assert names["after"].margin > 1.1 * names["before"].margin


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_has_a_language(page):
    opening = [line.strip() for line in page.read_text().splitlines() if line.lstrip().startswith("```")][::2]
    assert set(opening) <= {f"```{language}" for language in LANGUAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_fits_into_a_window(page):
    """`docs/stylesheets/width.css` makes room for as many characters on a window 1280 pixels wide."""
    blocks = page.read_text().split("```")[1::2]
    assert max((len(line) for block in blocks for line in block.splitlines()), default=0) <= 100


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_files_that_pages_name_exist(page):
    names = re.findall(r"(?<![\w/.-])(?:examples|benchmarks|keras_amm)/[\w/.-]+\w", page.read_text())
    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("python\nassert 1 == 2", "1 == 2"),
        ("bash\nkeras-amm margins missing.keras --dataset=x.npz", "missing.keras"),
        ("bash\nkeras-amm margins model.keras --speed=9", "--speed"),
        ("bash\npython examples/quickstart.py --speed=9", "--speed"),
        ("bash\npython examples/cifar10.py --noamm --speed=9", "--speed"),
        ("bash\nrm model.keras", "Expected"),
    ],
)
def test_a_wrong_block_fails(block, reason, clone, capsys):
    page = clone / "page.md"
    page.write_text(f"```{block}\n```\n")
    with pytest.raises((AssertionError, SystemExit)) as failure:
        _run(page)
    assert reason in f"{failure.getrepr()} {capsys.readouterr().err}"


def _run(page):
    """Run the page's blocks; the names that they have set."""
    scripts = []
    parsers = (CodeBlockParser("python", PythonEvaluator()), CodeBlockParser("bash", _run_commands), SkipParser())
    if page.name in SCRIPTS:
        parsers = (CodeBlockParser("python", lambda example: scripts.append(str(example.parsed))), *parsers[1:])
    document = Document.parse(str(page), *parsers)
    for example in document.examples():
        example.evaluate()
    if scripts:
        _run_scripts(scripts)
    return document.namespace


# A process for each script, all with what one process has imported for them: importing TensorFlow takes the most time.
FORKED = """
import multiprocessing
import sys
import keras_amm

for script in sys.argv[1:]:
    process = multiprocessing.get_context("fork").Process(target=exec, args=(script, {"__name__": "__main__"}))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"This script failed:\\n{script}")
"""


def _run_scripts(scripts):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FORKED, *scripts]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


def _run_commands(example):
    for line in str(example.parsed).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["keras-amm"]:
            assert keras_amm.cli.main(keras_amm.cli.parse(words)) == 0, line
        elif words[:1] == ["python"]:
            _check_script(*words[1:])
        else:
            assert not words, (
                f"Expected a command of keras-amm or a script, or a block marked to be skipped. Got: {line}"
            )


def _check_script(path, *options):
    # They take minutes, and have tests of their own: here only that there is such a script with such options.
    source = (ROOT / path).read_text()
    if "script.run(" in source:
        source += (ROOT / "examples" / "paper" / "training" / "settings.py").read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and _defines_flag(node)]
    flags = {call.args[0].value for call in calls}
    flags |= {f"no{call.args[0].value}" for call in calls if call.func.attr == "DEFINE_bool"}
    for option in options:
        name = option.removeprefix("--").partition("=")[0]
        assert option.startswith("--") and name in flags, f"{path} has no {option}"


def _defines_flag(call):
    return isinstance(call.func, ast.Attribute) and call.func.attr.startswith("DEFINE_")
