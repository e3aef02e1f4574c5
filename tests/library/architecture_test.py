"""How the library is built: imports that point one way, and rooms that are not too large."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MODULES = sorted((ROOT / "keras_amm").rglob("*.py"))


def test_imports_point_one_way(monkeypatch):
    """The layers, and that no folder holds a circle, are declared in setup.cfg for import-linter."""
    cli = pytest.importorskip("importlinter.cli")
    monkeypatch.chdir(ROOT)
    assert cli.lint_imports(config_filename="setup.cfg", no_cache=True) == cli.EXIT_STATUS_SUCCESS


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_are_small(module):
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_say_what_they_are_for(module):
    first = module.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith('"""') and len(first) > 10
