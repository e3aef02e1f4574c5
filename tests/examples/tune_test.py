"""The search for lambda, c and d: its order, failures and resuming, and one real search on a tiny CIFAR-100."""

import json

import keras
import matplotlib.pyplot as plt
import pytest

from paper import architectures
from paper.data import data_sets
from paper.training import trainer
from paper.tuning import grid_search
from paper.tuning.grid import Grid, Row, plot, table
from paper.tuning.grid_search import search
from tests.helpers import tiny_data_sets
from tests.helpers.training_settings import resolve

# KerasTuner tells its threads apart by old methods.
pytestmark = pytest.mark.filterwarnings("ignore:(currentThread|getName).. is deprecated:DeprecationWarning")

GRID = Grid([32.0, 8.0], [1.0, 2.0], [1.0])


def settings(model="lenet", **given):
    return resolve("cifar100", model, **{"epochs": 1, "log_margins": 0, **given})


@pytest.fixture
def trained(monkeypatch):
    """Errors and margins by formula in place of training; what was trained."""
    calls = []

    def train(settings, out, resume=True):
        calls.append(settings)
        strength, c, seed = settings["strength"], settings["c"], settings["seed"]
        if (strength, c) == (32.0, 1.0):
            raise ValueError("In training step 3, whose update was not applied: NaN.")
        if strength == 128.0:
            raise KeyboardInterrupt
        result = {"config": settings, "error_percent": 10.0 + seed, "margin_mean": c if strength == 8.0 else 1.5}
        out.mkdir(parents=True)
        (out / "result.json").write_text(json.dumps(result))
        return result

    monkeypatch.setattr(trainer, "train", train)
    # There is no memory to free, and to look for it takes long.
    monkeypatch.setattr(keras.utils, "clear_session", lambda: None)
    return calls


def test_order_and_failures(tmp_path, trained):
    rows = search(settings(), GRID, [0, 1], tmp_path)
    assert [(row.strength, row.c) for row in rows] == [(8.0, 2.0), (32.0, 2.0), (8.0, 1.0), (32.0, 1.0)]
    assert [row.error_percent for row in rows] == [10.5, 10.5, 10.5, None]
    assert [row.margin_mean for row in rows] == [2.0, 1.5, 1.0, None]
    assert rows[-1].failure == "ValueError: In training step 3, whose update was not applied: NaN."
    assert all(call["validation"] and call["amm"] for call in trained) and len(trained) == 2 * 3 + 1
    lines = table(rows).splitlines()
    assert lines[1].split() == ["8", "2", "1", "10.50%", "2.000"] and "failed: ValueError" in lines[4]
    saved = json.loads((tmp_path / "grid.json").read_text())
    assert [Row(**row) for row in saved["rows"]] == rows and saved["seeds"] == [0, 1]
    assert saved["versions"]["threads"] >= 1
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_what_is_done_is_not_done_again(tmp_path, trained):
    with pytest.raises(KeyboardInterrupt):
        search(settings(), GRID._replace(strength=[8.0, 128.0]), [0], tmp_path)
    assert len(trained) == 3
    # A larger grid is another search, which takes over trainings.
    larger = search(settings(), GRID._replace(strength=[8.0, 16.0]), [0], tmp_path)
    assert [call["strength"] for call in trained[3:]] == [16.0, 16.0] and len(larger) == 4
    # The same again, from KerasTuner's memory.
    assert search(settings(), GRID._replace(strength=[8.0, 16.0]), [0], tmp_path) == larger
    assert len(trained) == 5
    # Other settings are other trainings.
    assert search(settings(epochs=2), Grid([16.0], [2.0], [1.0]), [1], tmp_path)[0].error_percent == 11.0
    assert len(trained) == 6 and trained[-1]["epochs"] == 2


def test_what_begins_from_other_weights_is_left_to_the_training(tmp_path, trained):
    one, other = ({**settings(init_from=file), "strength": 8.0} for file in ("one.keras", "other.keras"))
    grid_search._trained(one, tmp_path / "kept")
    grid_search._trained(one, tmp_path / "kept")
    assert len(trained) == 1
    with pytest.raises(FileExistsError):
        grid_search._trained(other, tmp_path / "kept")
    assert len(trained) == 2


def test_another_grid_adds_to_what_is_there(tmp_path, trained):
    first = search(settings(), GRID, [0], tmp_path)
    rows = search(settings(data_dir="elsewhere"), Grid([8.0], [4.0], [1.0, 3.0]), [0], tmp_path)
    # c = 4 has the largest margin of strength 8; what failed comes last.
    assert rows == [Row(8.0, 4.0, 1.0, 10.0, 4.0), Row(8.0, 4.0, 3.0, 10.0, 4.0), *first]
    saved = json.loads((tmp_path / "grid.json").read_text())
    assert [Row(**row) for row in saved["rows"]] == rows
    # What was tried again counts once, and other settings or seeds are another search.
    assert search(settings(), GRID, [0], tmp_path) == rows
    assert len(search(settings(), GRID._replace(strength=[8.0]), [1], tmp_path)) == 2
    assert len(search(settings(epochs=2), Grid([16.0], [1.0], [1.0]), [1], tmp_path)) == 1


def test_one_reference_per_seed(tmp_path, trained):
    search(settings("resnet-20"), GRID._replace(strength=[8.0]), [0, 1], tmp_path)
    assert [(call["amm"], call["seed"]) for call in trained] == [
        (False, 0), (True, 0), (False, 1), (True, 1), (True, 0), (True, 1),
    ]  # fmt: skip
    for call in trained:
        reference = str(tmp_path / "references" / f"seed={call['seed']}" / "model.keras")
        assert call["init_from"] == (reference if call["amm"] else None)


@pytest.mark.parametrize("values", [[], [8.0, 8.0]])
def test_values_that_make_no_grid(tmp_path, values):
    with pytest.raises(ValueError, match="one or more different values"):
        search(settings(), GRID._replace(strength=values), [0], tmp_path)


def test_plot_frames_the_best():
    rows = [
        Row(8.0, 2.0, 1.0, 9.0, 1.5),
        Row(8.0, 1.0, 1.0, 11.0, 1.2),
        Row(32.0, 1.0, 1.0, failure="x"),
    ]
    figure = plot(rows)
    panel = figure.axes[0]
    assert [text.get_text() for text in panel.texts] == ["9.00%\nmargin 1.50", "11.00%\nmargin 1.20", "failed"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["8", "32"]
    (frame,) = panel.patches
    assert tuple(frame.get_center()) == (1.0, 0.0)
    plt.close(figure)


@pytest.mark.usefixtures("eagerly")
def test_a_real_search_measures_what_was_held_out(tmp_path, monkeypatch):
    tiny_data_sets.prepare_cifar100(tmp_path)
    monkeypatch.setattr(data_sets, "NUM_VALIDATION", 6)
    monkeypatch.setattr(
        architectures,
        "build",
        lambda _, num_classes: keras.Sequential(
            [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(num_classes)]
        ),
    )
    common = settings(
        batch_size=14, drop_at=[], data_dir=str(tmp_path), num_candidates=2, gradient="boundary", augment=False
    )
    rows = search(common, Grid([-1.0, 8.0], [1.0], [2.0]), [3], tmp_path)
    assert "strength=-1.0" in rows[1].failure
    result = json.loads((tmp_path / "trials" / "strength=8,c=1,d=2" / "seed=3" / "result.json").read_text())
    assert (rows[0].error_percent, rows[0].margin_mean) == (result["error_percent"], result["margin_mean"])
    assert result["measured_on"] == "validation" and result["margin_images"] == 6 and result["training_images"] == 14
    assert {name: result["config"][name] for name in ("strength", "c", "d", "seed")} == {
        "strength": 8.0, "c": 1.0, "d": 2.0, "seed": 3,
    }  # fmt: skip
