"""Pictures: what is drawn is what was given, in the right place, and nothing is hidden."""

import csv
import io
import pickle
import sys

import keras
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.cbook import is_math_text
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

import keras_amm
from keras_amm import plots
from keras_amm.plots.style import COLORS, new_figure
from tests.library.measuring.report_test import report_of

W, B = np.array([[3.0, -1.0], [1.0, 2.0]]), np.array([0.5, -0.25])


def linear(shape=(2,), w=W, b=B):
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(w.shape[1])])
    model.set_weights([w.astype("float32"), b.astype("float32")])
    return model


def boundary(panel):
    """The points of the drawn boundary lines."""
    lines = [c for c in panel.collections if len(np.atleast_1d(c.get_linewidth())) and not len(c.get_facecolor())]
    return np.concatenate([path.vertices for line in lines for path in line.get_paths()])


def image_deltas():
    rng = np.random.default_rng(0)
    return rng.uniform(size=(5, 6, 4)), rng.normal(size=(5, 6, 4))


DRAWERS = {
    "margin_histogram": lambda: plots.margin_histogram([report_of(), report_of()]),
    "robust_accuracy": lambda: plots.robust_accuracy({"a": report_of(), "b": report_of()}),
    "perturbation_grid": lambda: plots.perturbation_grid(*image_deltas(), range(5), range(5)),
    "decision_regions": lambda: plots.decision_regions(linear(), [[0.0, 1.0], [1.0, 0.0]], [0, 1], resolution=11),
    "boundary_cross_section": lambda: plots.boundary_cross_section(linear(), [1.0, 0.0], [0.0, 1.0], resolution=11),
    "training_curves": lambda: plots.training_curves({"a": {"val_accuracy": [0.5, 0.9]}}),
}


@pytest.mark.parametrize("name", plots.__all__)
class TestEvery:
    def test_labels_axes_and_stays_out_of_pyplot(self, name, tmp_path):
        before = "matplotlib.pyplot" in sys.modules
        figure = DRAWERS[name]()
        assert isinstance(figure, Figure) and ("matplotlib.pyplot" in sys.modules) == before
        shown = [axis for axis in figure.axes if axis.axison]
        assert shown and all(axis.get_xlabel() or axis.get_ylabel() for axis in shown)
        figure.savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 1000

    def test_clips_no_text(self, name):
        figure = DRAWERS[name]()
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 > -0.05 and box.y0 > -0.05 and box.x1 < width + 0.05 and box.y1 < height + 0.05

    def test_without_matplotlib(self, name, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        # Where an earlier test has drawn, it was imported with matplotlib.
        monkeypatch.delitem(sys.modules, "keras_amm.plots.notebook_figure", raising=False)
        with pytest.raises(ImportError, match=r"pip install matplotlib"):
            DRAWERS[name]()


def test_names_are_shown_as_they_are():
    """A legend would leave out a name with an underscore first, and show one between dollars as a formula."""
    names = ["_plain", "lr$1$", "$-c$"]
    points = [[0.0, 0.0], [1.0, 1.0]]
    figures = [
        plots.robust_accuracy({name: report_of() for name in names}),
        plots.training_curves({name: {"loss": [1.0]} for name in names}, "loss"),
        plots.decision_regions(linear(), points, [0, 1], class_names=names, resolution=11),
    ]
    for figure, shown in zip(figures, (names, names, names[:2]), strict=True):
        texts = figure.axes[0].get_legend().get_texts()
        assert [text.get_text().strip().replace(r"\$", "$") for text in texts] == shown
        assert not any(is_math_text(text.get_text()) for text in texts)
    titles = [panel.get_title() for panel in plots.margin_histogram({name: report_of() for name in names}).axes]
    titles += [
        panel.get_title()
        for panel in plots.perturbation_grid(*image_deltas(), [1] * 5, [2] * 5, class_names=names).axes
    ]
    assert r"lr\$1\$" in titles and not any(map(is_math_text, titles))


class TestMarginHistogram:
    def test_bars_are_counts_on_equal_scales(self):
        rng = np.random.default_rng(0)
        reports = {}
        for name, scale in (("narrow", 1.0), ("wide", 3.0)):
            signed = scale * rng.normal(0.5, 1.0, size=300)
            right = signed > 0
            reports[name] = report_of(
                norms=np.abs(signed), signed=signed, predictions=right, labels=[1] * 300, success=[True] * 300
            )
        figure = plots.margin_histogram(reports)
        assert [panel.get_title() for panel in figure.axes] == list(reports)
        assert len({panel.get_xlim() for panel in figure.axes}) == len({panel.get_ylim() for panel in figure.axes}) == 1
        for panel, report in zip(figure.axes, reports.values(), strict=True):
            bars = [
                (bar.get_x(), bar.get_width(), bar.get_height(), to_hex(bar.get_facecolor())) for bar in panel.patches
            ]
            for x, width, height, color in bars:
                inside = (report.signed >= x) & (report.signed < x + width)
                sign = report.correct if color == COLORS[0] else ~report.correct
                # Edges are rounded where they fall on a value.
                assert abs(height - np.sum(inside & sign)) <= 1
            assert sum(bar[2] for bar in bars) == 300
            assert panel.lines[0].get_xdata()[0] == pytest.approx(np.mean(report.signed[np.isfinite(report.signed)]))
            # The legend needs the upper two sevenths.
            assert max(bar[2] for bar in bars) <= panel.get_ylim()[1] * 5 / 7 + 1e-6

    def test_given_axes(self):
        figure = Figure()
        axes = figure.subplots(1, 2)
        assert plots.margin_histogram([report_of(), report_of()], axes) is figure
        with pytest.raises(ValueError, match="Expected 2 axes"):
            plots.margin_histogram([report_of(), report_of()], axes[0])

    def test_subfigure(self):
        figure = Figure()
        part = figure.subfigures(1, 2)[0]
        assert plots.robust_accuracy(report_of(), part.subplots()) is figure

    def test_reports_of_one_name_are_numbered(self):
        reports = {name: report_of(model_name=name) for name in ("mlp", "cnn")}
        figure = plots.margin_histogram([*reports.values(), reports["mlp"]])
        assert [panel.get_title() for panel in figure.axes] == ["mlp (1)", "cnn", "mlp (2)"]
        values = plots.margin_histogram(reports.values())
        assert [panel.get_title() for panel in values.axes] == ["mlp", "cnn"]

    def test_anything_with_the_arrays_of_a_report(self):
        class Other:
            """Not a MarginReport."""

        other, report = Other(), report_of()
        for name in ("norms", "signed", "correct", "mean", "model_name", "robust_accuracy"):
            setattr(other, name, getattr(report, name))
        heights = [[bar.get_height() for bar in plots.margin_histogram(r).axes[0].patches] for r in (other, report)]
        assert heights[0] == heights[1]
        np.testing.assert_array_equal(
            *(plots.robust_accuracy(r).axes[0].lines[0].get_xydata() for r in (other, report))
        )

    def test_no_report(self):
        with pytest.raises(ValueError, match="one margin report or more"):
            plots.margin_histogram([])
        with pytest.raises(TypeError, match=r"Expected a MarginReport.* Received: 0.5 of type float"):
            plots.margin_histogram([0.5])
        with pytest.raises(ValueError, match=r"`bins` must be .* Received: bins=0"):
            plots.margin_histogram(report_of(), bins=0)


class TestRobustAccuracy:
    def test_lines(self):
        reports = {"a": report_of(), "b": report_of(norms=[2.0, 4.0, 6.0, 1.0])}
        panel = plots.robust_accuracy(reports, radii=[0.0, 1.5, 2.5]).axes[0]
        # By hand, see report_test: one of four is misclassified, one attack failed.
        np.testing.assert_allclose(panel.lines[0].get_ydata(), [75.0, 50.0, 25.0])
        np.testing.assert_allclose(panel.lines[1].get_ydata(), [75.0, 75.0, 50.0])
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["a", "b"]
        assert panel.lines[0].get_linestyle() != panel.lines[1].get_linestyle()

    def test_reaches_the_largest_margin(self):
        panel = plots.robust_accuracy([report_of(), report_of(norms=[1.0, 2.0, np.inf, 9.0])]).axes[0]
        assert panel.get_xlim()[1] == pytest.approx(9.0 * 1.02)


class TestPerturbationGrid:
    def test_shows_the_arrays(self):
        images, deltas = image_deltas()
        figure = plots.perturbation_grid(images, deltas, [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], labels=[0, 1, 2, 3, 9])
        shown = [panel for panel in figure.axes if panel.images]
        assert len(shown) == 15
        largest = np.max(np.abs(deltas))
        for i in range(5):
            clean, change, perturbed = shown[i], shown[5 + i], shown[10 + i]
            low, high = images.min(), images.max()
            np.testing.assert_allclose(clean.images[0].get_array(), (images[i] - low) / (high - low), atol=1e-6)
            np.testing.assert_allclose(change.images[0].get_array(), deltas[i], atol=1e-6)
            assert change.images[0].get_clim() == pytest.approx((-largest, largest))
            expected = np.clip((images[i] + deltas[i] - low) / (high - low), 0, 1)
            np.testing.assert_allclose(perturbed.images[0].get_array(), expected, atol=1e-5)
            assert change.get_title() == f"l2 {np.sqrt(np.sum(deltas[i] ** 2)):#.3g}"
            assert perturbed.get_title() == str(5 + i)
        assert shown[3].get_title() == "3" and shown[4].get_title() == "4\n(label 9)"

    def test_shows_the_norm_of_the_attack(self):
        images, deltas = image_deltas()
        figure = plots.perturbation_grid(images, deltas, range(5), range(5), norm="linf")
        shown = [panel.get_title() for panel in figure.axes if panel.images][5:10]
        assert shown == [f"linf {np.max(np.abs(delta)):#.3g}" for delta in deltas]

    def test_colour_images_and_rows(self):
        images, deltas = np.random.default_rng(0).uniform(size=(2, 5, 4, 4, 3))
        figure = plots.perturbation_grid(
            images, deltas, [0] * 5, [1] * 5, class_names=["cat", "dog"], columns=2, value_range=(0.0, 1.0)
        )
        shown = [panel for panel in figure.axes if panel.images]
        assert len(shown) == 15 and shown[0].get_title() == "cat"
        np.testing.assert_allclose(shown[0].images[0].get_array(), images[0], atol=1e-6)
        np.testing.assert_allclose(shown[2].images[0].get_array(), 0.5 + 0.5 * deltas[0] / deltas.max(), atol=1e-6)

    @pytest.mark.parametrize("name", ["automobile", "American Staffordshire terrier", 20 * "W"])
    def test_titles_do_not_overlap(self, name):
        images, deltas = np.random.default_rng(0).uniform(size=(2, 8, 4, 4))
        figure = plots.perturbation_grid(
            images, deltas, [0] * 8, [1] * 8, labels=[1] * 8, class_names=["truck", name], columns=4
        )
        figure.draw_without_rendering()
        titles = [panel.title.get_window_extent() for panel in figure.axes if panel.images]
        overlaps = [one.overlaps(other) for i, one in enumerate(titles) for other in titles[:i]]
        assert len(titles) == 24 and not any(overlaps)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"images": np.zeros((5, 6))}, r"Expected images .n, height, width"),
            ({"images": np.zeros((5, 6, 4, 2)), "perturbations": np.zeros((5, 6, 4, 2))}, "1 or 3 channels"),
            ({"perturbations": np.zeros((4, 6, 4))}, "needs a perturbation of its shape"),
            ({"before": [0, 1]}, "classes before and after"),
            ({"class_names": ["cat"]}, "Every class needs a name"),
            ({"norm": "l1"}, "`norm` must be one of .'l2', 'linf'.. Received: norm='l1'"),
            ({"columns": 0}, r"`columns` must be .* Received: columns=0"),
        ],
    )
    def test_bad_input(self, change, message):
        images, deltas = image_deltas()
        arguments = {"images": images, "perturbations": deltas, "before": range(5), "after": range(5), **change}
        with pytest.raises(ValueError, match=message):
            plots.perturbation_grid(**arguments)


class TestDecisionRegions:
    def test_boundary_is_where_the_logits_are_equal(self):
        panel = plots.decision_regions(linear(), limits=((-2.0, 2.0), (-1.0, 3.0)), resolution=31).axes[0]
        line = boundary(panel)
        assert len(line) > 10
        np.testing.assert_allclose(line @ (W[:, 0] - W[:, 1]) + (B[0] - B[1]), 0.0, atol=1e-5)
        assert panel.get_xlim() == (-2.0, 2.0) and panel.get_ylim() == (-1.0, 3.0)

    def test_points_and_names(self):
        x = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, -1.0]])
        panel = plots.decision_regions(linear(), x, [0, 1, 1], class_names=["cat", "dog"], resolution=11).axes[0]
        drawn = [c.get_offsets() for c in panel.collections if len(c.get_offsets()) and c.get_offsets().any()]
        np.testing.assert_array_equal(drawn[-1], x[1:])
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["cat", "dog"]
        assert panel.get_xlim() == pytest.approx((-0.2, 2.2)) and panel.get_ylim() == pytest.approx((-1.2, 1.2))

    def test_one_class_everywhere(self):
        model = linear(w=np.zeros((2, 3)), b=np.array([0.0, 1.0, 0.0]))
        panel = plots.decision_regions(model, limits=((0.0, 1.0), (0.0, 1.0)), resolution=5).axes[0]
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["class 1"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "Received: neither"),
            ({"x": np.zeros((3, 3)), "y": [0, 1, 2]}, "points x"),
            ({"x": np.zeros((3, 2))}, r"Received: x without y"),
            ({"x": np.zeros((3, 2)), "y": [0, 1]}, r"with their classes .* y of shape \(2,\)"),
            ({"limits": ((0, 1), (0, 1)), "resolution": 0}, "`resolution` must be"),
        ],
    )
    def test_bad_input(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            plots.decision_regions(linear(), **arguments)

    def test_not_of_the_plane(self):
        model = linear((3,), w=np.ones((3, 2)))
        with pytest.raises(ValueError, match="Images do not fit the model"):
            plots.decision_regions(model, limits=((0.0, 1.0), (0.0, 1.0)))


class TestCrossSection:
    def test_boundary_of_a_linear_classifier(self):
        rng = np.random.default_rng(1)
        model = linear((3, 2, 1), w=rng.normal(size=(6, 2)))
        image = rng.normal(size=(3, 2, 1)).astype("float32")
        found = keras_amm.DeepFool(overshoot=0.02).perturb(model, image[None])
        panel = plots.boundary_cross_section(model, image, found.delta[0], resolution=41).axes[0]
        line = boundary(panel)
        # The perturbation is orthogonal to the boundary, and all the plane's other direction lies along it.
        np.testing.assert_allclose(line[:, 0], float(found.norm[0]) / 1.02, rtol=1e-3)
        assert np.ptp(line[:, 1]) == pytest.approx(4.0 * float(found.norm[0]), rel=1e-3)
        assert panel.patches[0].get_radius() == pytest.approx(float(found.norm[0]))

    def test_seed_chooses_the_direction(self):
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)])
        image, delta = np.random.default_rng(2).normal(size=(2, 8))
        lines = [
            boundary(plots.boundary_cross_section(model, image, delta, seed=seed, resolution=21, reach=9.0).axes[0])
            for seed in (0, 0, 1)
        ]
        np.testing.assert_array_equal(lines[0], lines[1])
        assert lines[0].shape != lines[2].shape or np.max(np.abs(lines[0] - lines[2])) > 1e-3

    @pytest.mark.parametrize("delta", [np.zeros(2), np.zeros(3), np.array([np.nan, 0.0])])
    def test_bad_perturbation(self, delta):
        with pytest.raises(ValueError, match="a perturbation of its shape that is not zero"):
            plots.boundary_cross_section(linear(), np.ones(2), delta)


class TestTrainingCurves:
    def test_mean_and_band_of_seeds(self):
        seeds = [[0.5, 0.7, 0.9], [0.3, 0.8, 0.8, 0.9], [0.4, 0.6, 0.7]]
        histories = [{"val_accuracy": seeds[0]}, keras.callbacks.History(), [{"val_accuracy": v} for v in seeds[2]]]
        histories[1].history = {"val_accuracy": seeds[1]}
        figure = plots.training_curves({"AMM": histories, "one": histories[0]}, "val_accuracy", label="accuracy")
        panel = figure.axes[0]
        table = np.array([seed[:3] for seed in seeds])
        np.testing.assert_allclose(panel.lines[0].get_ydata(), table.mean(axis=0))
        np.testing.assert_allclose(panel.lines[0].get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(panel.lines[1].get_ydata(), seeds[0])
        assert len(panel.collections) == 1
        band = panel.collections[0].get_paths()[0].vertices
        for epoch in (1, 2, 3):
            values = band[band[:, 0] == epoch, 1]
            assert (values.min(), values.max()) == pytest.approx((table[:, epoch - 1].min(), table[:, epoch - 1].max()))
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["AMM, 3 seeds", "one"]
        assert panel.get_ylabel() == "accuracy"

    def test_colors_of_runs(self):
        runs = {"a": {"loss": [1.0]}, "b": [{"loss": [2.0]}, {"loss": [3.0]}]}
        (panel,) = plots.training_curves(runs, "loss", colors={"b": "black", "c": "red"}).axes
        first = plots.training_curves(runs, "loss").axes[0].lines[0].get_color()
        assert [line.get_color() for line in panel.lines] == [first, "black"]
        np.testing.assert_array_equal(panel.collections[0].get_facecolor()[0, :3], 0.0)

    def test_rows_of_one_run(self):
        rows = [{"epoch": 0, "loss": "0.5"}, {"epoch": 1, "loss": "0.25"}]
        line = plots.training_curves({"run": rows}, "loss").axes[0].lines[0]
        np.testing.assert_allclose(line.get_ydata(), [0.5, 0.25])

    def test_rows_as_they_are_read(self, tmp_path):
        """Of a CSVLogger, in a resumed training of which only every other epoch was validated."""
        path = tmp_path / "log.csv"
        path.write_text("epoch,loss,val_loss\n4,0.5,NA\n5,0.4,0.8\n6,0.3,NA\n7,0.2,0.6\n")
        with path.open(newline="") as file:
            line = plots.training_curves({"run": csv.DictReader(file)}, "val_loss").axes[0].lines[0]
        np.testing.assert_array_equal(line.get_xydata(), [[6, 0.8], [8, 0.6]])

    def test_validation_freq_of_keras(self):
        model = linear()
        model.compile("sgd", "mse")
        x = np.zeros((4, 2), "float32")
        history = model.fit(x, x, validation_data=(x, x), validation_freq=5, epochs=10, verbose=0)
        for line in plots.training_curves({"a": history, "b": history.history}, "val_loss").axes[0].lines:
            np.testing.assert_array_equal(line.get_xdata(), [5, 10])
            np.testing.assert_allclose(line.get_ydata(), history.history["val_loss"])

    @pytest.mark.parametrize(
        ("epochs", "number", "validation_freq", "expected"),
        [
            (10, 2, 4, [4, 8]),  # not 5, which would be inferred
            (10, 3, None, [3, 6, 9]),  # nothing else gives three
            (12, 4, None, [3, 6, 9, 12]),
            (11, 2, None, "cannot be told"),  # 4 or 5
            (11, 4, None, "cannot be told"),
            (10, 2, 3, "Received: validation_freq=3"),
            (10, 2, 0, "must be a whole number"),
        ],
    )
    def test_epochs_of_fewer_values(self, epochs, number, validation_freq, expected):
        def draw():
            history = {"loss": [0.0] * epochs, "val_loss": [0.0] * number}
            return plots.training_curves({"run": history}, "val_loss", validation_freq=validation_freq)

        if isinstance(expected, list):
            np.testing.assert_array_equal(draw().axes[0].lines[0].get_xdata(), expected)
        else:
            with pytest.raises(ValueError, match=expected):
                draw()

    @pytest.mark.parametrize(
        ("runs", "error", "message"),
        [
            ({}, ValueError, "one run or more"),
            ({"a": []}, ValueError, "an empty history"),
            ({"a": {"loss": []}}, ValueError, "an empty history"),
            ({"a": [{"loss": "NA"}]}, ValueError, "an empty history"),
            ({"a": {"accuracy": [1.0]}}, ValueError, r"no metric 'loss'. Received: a history of .'accuracy'"),
            ({"a": [[{"epoch": 0, "loss": 1}], [{"epoch": 1, "loss": 1}]]}, ValueError, "no epoch in common"),
            ([{"loss": [1.0]}], TypeError, r"a mapping from names to histories.* Received: runs of type list"),
            ({"loss": [1.0]}, TypeError, r"'loss' needs a history.* Received: 1.0 of type float"),
            ({"a": "log.csv"}, TypeError, "Received: 'log.csv' of type str"),
        ],
    )
    def test_bad_input(self, runs, error, message):
        with pytest.raises(error, match=message):
            plots.training_curves(runs, "loss")


class TestNotebook:
    def test_a_cell_shows_the_figure_without_pyplot(self):
        """Nor does the figure join those that pyplot keeps open."""
        before = dict(Gcf.figs)
        figure = new_figure(2.0, 1.0)
        figure.subplots()
        try:
            from IPython.core.formatters import DisplayFormatter

            data, _ = DisplayFormatter().format(figure)
        except ImportError:
            data = {"image/png": figure._repr_png_()}
        # Keras imports pyplot, but the figure is none of those that it keeps.
        assert before == Gcf.figs
        image = imread(io.BytesIO(data["image/png"]))
        assert image.shape == (100, 200, 4) and image[..., :3].min() < 0.5

    def test_it_is_pickled_as_any_figure(self):
        assert len(pickle.loads(pickle.dumps(new_figure(2.0, 1.0))).axes) == 0


def test_a_second_report_is_no_axes():
    report = keras_amm.MarginReport(norms=[1.0], signed=[1.0], predictions=[0], labels=[0], success=[True])
    for draw in (keras_amm.plots.margin_histogram, keras_amm.plots.robust_accuracy):
        with pytest.raises(TypeError, match=r"Several reports go together in a list.*Received.*MarginReport"):
            draw(report, report)


def test_a_cross_section_finds_its_perturbation():
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    image = np.array([[[1.0], [2.0]], [[3.0], [4.0]]], "float32")
    found = keras_amm.DeepFool(refine_steps=10).perturb(model, image[None]).norm.numpy()[0]
    figure = keras_amm.plots.boundary_cross_section(model, image, resolution=11)
    assert figure.axes[0].lines[0].get_xdata()[1] == pytest.approx(found, rel=1e-5)
