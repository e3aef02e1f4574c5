"""MarginReport: figures by hand, JSON to the last bit, plots without a window."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_amm.report import MarginReport
from keras_amm.report_summary import round_radii

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


def report_of(**changes):
    fields = {
        "norms": [1.0, 2.0, 3.0, 0.5],
        "signed": [1.0, 2.0, 3.0, -0.75],
        "predictions": [0, 1, 2, 0],
        "labels": [0, 1, 2, 1],
        "success": [True, True, False, True],
        "seconds": 1.25,
        "attack": {"max_iterations": 6, "from_logits": None},
        "model_name": "mlp",
        "units": "l2, in the units of the images given",
    }
    return MarginReport(**{**fields, **changes})


class TestArrays:
    def test_dtypes(self):
        report = report_of()
        assert report.norms.dtype == report.signed.dtype == np.float32
        assert report.success.dtype == bool
        assert np.issubdtype(report.predictions.dtype, np.integer) and np.issubdtype(report.labels.dtype, np.integer)
        assert len(report) == 4
        assert report.seconds == 1.25 and report.model_name == "mlp" and report.attack["max_iterations"] == 6

    def test_figures(self):
        report = report_of()
        assert report.mean == 1.625
        assert report.median == 1.5
        # The failed attack and the misclassified image count 0.
        np.testing.assert_array_equal(report.margins, [1.0, 2.0, 0.0, 0.0])
        assert report.margin == 0.75 and report.margin_median == 0.5
        assert report.signed_mean == (1.0 + 2.0 + 0.0 - 0.75) / 4
        assert report.accuracy == 0.75
        assert report.error == 0.25
        assert report.success_rate == 0.75
        np.testing.assert_array_equal(report.correct, [True, True, True, False])
        assert all(
            type(getattr(report, name)) is float
            for name in "margin margin_median signed_mean mean median accuracy error success_rate".split()
        )

    @pytest.mark.parametrize(("predictions", "share"), [([7, 0, 7, 7], 0.75), ([5] * 4, 1.0), ([0, 3, 1, 2], 0.25)])
    def test_share_of_the_class_that_is_predicted_most(self, predictions, share):
        assert report_of(predictions=predictions).most_predicted_share == share

    @pytest.mark.parametrize("changes", [{"norms": [1.0]}, {"labels": [[0], [1], [2], [1]]}, {"success": True}])
    def test_unequal_lengths(self, changes):
        with pytest.raises(ValueError, match=r"equal lengths.*Received:.*norms"):
            report_of(**changes)

    def test_empty(self):
        with pytest.raises(ValueError, match="one image or more"):
            MarginReport(norms=[], signed=[], predictions=[], labels=[], success=[])

    def test_keywords_only(self):
        with pytest.raises(TypeError):
            MarginReport([1.0], [1.0], [0], [0], [True])


class TestRobustAccuracy:
    def test_by_hand(self):
        # A successful attack of norm 1 has led astray at radius 1; a failed one of norm 3 is vouched for up to 3.
        radii = [0.0, 0.9, 1.0, 1.9, 2.0, 3.0, 3.1]
        np.testing.assert_array_equal(report_of().robust_accuracy(radii), [0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.0])

    def test_shape(self):
        report = report_of()
        assert report.robust_accuracy(0.0).shape == ()
        assert report.robust_accuracy(0.0) == report.accuracy
        assert report.robust_accuracy(np.zeros((2, 3))).shape == (2, 3)

    def test_zero_norm_of_a_failed_attack(self):
        report = MarginReport(norms=[0.0], signed=[0.0], predictions=[1], labels=[1], success=[False])
        assert report.robust_accuracy(0.0) == report.accuracy == 1.0

    @pytest.mark.parametrize("radius", [-1.0, float("nan")])
    def test_radius(self, radius):
        with pytest.raises(ValueError, match="must not be negative"):
            report_of().robust_accuracy([0.0, radius])

    @given(
        st.lists(
            st.tuples(st.floats(0.0009765625, 10, width=32), st.booleans(), st.booleans()), min_size=1, max_size=30
        ),
        st.lists(st.floats(0, 12), min_size=1, max_size=5),
    )
    def test_definition(self, samples, radii):
        norms, right, success = (np.array(column) for column in zip(*samples, strict=True))
        report = MarginReport(norms=norms, signed=norms, predictions=right, labels=np.ones(len(right)), success=success)
        expected = [
            sum(r and (n > radius or (n == radius and not s)) for n, r, s in zip(norms, right, success, strict=True))
            / len(norms)
            for radius in radii
        ]
        np.testing.assert_allclose(report.robust_accuracy(radii), expected)
        curve = report.robust_accuracy(np.linspace(0, 12, 50))
        assert curve[0] == report.accuracy and np.all(np.diff(curve) <= 0)


class TestSummary:
    def test_lines(self):
        text = report_of().summary()
        for part in (
            "mlp on 4 images",
            "75.00%  (1 misclassified)",
            "mean margin       0.7500  (0 where",
            "median margin     0.5000",
            "signed mean       0.5625",
            "paper's mean      1.6250",
            "95%: 1.8500",
            "attack success    75.00%",
            "robust accuracy  1: 50.00%  2: 25.00%  5: 0.00%",
            "seconds             1.25",
            "max_iterations=6",
            "units of the images given",
        ):
            assert part in text, part
        assert not text.endswith("\n") and all(line == line.rstrip() for line in text.splitlines())

    def test_without_names(self):
        text = MarginReport(norms=[1.0], signed=[1.0], predictions=[0], labels=[0], success=[True]).summary()
        assert "the model on 1 image\n" in text and "units" not in text and "100.00%" in text

    def test_radii(self):
        assert "robust accuracy  0: 75.00%  0.9: 75.00%  3: 25.00%\n" in report_of().summary(radii=[0.0, 0.9, 3.0])
        assert "robust accuracy  0.9: 75.00%\n" in report_of().summary(0.9)
        with pytest.raises(ValueError, match="must not be negative"):
            report_of().summary([-1.0])

    def test_no_radius_is_near_no_margin(self):
        assert "robust" not in report_of(predictions=[3, 3, 3, 3]).summary()

    @given(st.floats(1e-30, 1e30))
    def test_round_radii(self, margin):
        low, nearest, high = round_radii(margin)
        assert low < margin < high and low < nearest < high <= 5.01 * low
        # Their first digits, without rounding errors, are 1, 2 and 5.
        assert sorted(f"{radius:e}"[0] for radius in (low, nearest, high)) == ["1", "2", "5"]
        assert all(f"{radius:.12e}"[1:14] == ".000000000000" for radius in (low, nearest, high))

    def test_repr(self):
        assert repr(report_of()) == "<MarginReport of 4 images: margin 0.75, accuracy 0.7500>"


class TestJson:
    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(FLOATS, FLOATS, st.integers(0, 2**40), st.integers(0, 999), st.booleans()),
            min_size=1,
            max_size=20,
        ),
        FLOATS,
        st.text(),
    )
    def test_round_trip(self, samples, seconds, name):
        columns = dict(
            zip(("norms", "signed", "predictions", "labels", "success"), zip(*samples, strict=True), strict=True)
        )
        report = MarginReport(
            **columns, seconds=seconds, attack={"overshoot": 0.1, "from_logits": None}, model_name=name
        )
        text = report.to_json()
        json.loads(text, parse_constant=pytest.fail)
        again = MarginReport.from_json(text)
        for field in columns:
            one, other = getattr(report, field), getattr(again, field)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
            if field in ("norms", "signed"):
                np.testing.assert_array_equal(np.signbit(one[one == 0]), np.signbit(other[other == 0]))
        assert again.seconds == report.seconds or np.isnan(report.seconds)
        assert (again.attack, again.model_name, again.units) == (report.attack, report.model_name, report.units)
        assert again.to_json() == text

    def test_short_numbers(self):
        assert json.loads(report_of(norms=[0.1, 1 / 3, 3.0, 1e-8]).to_json())["norms"] == [0.1, 0.33333334, 3.0, 1e-8]

    @pytest.mark.parametrize("as_string", [False, True])
    def test_file(self, tmp_path, as_string):
        path = tmp_path / "margins.json"
        text = report_of().to_json(str(path) if as_string else path)
        assert path.read_text() == text + "\n"
        assert MarginReport.from_json(str(path) if as_string else path).to_json() == text

    @pytest.mark.parametrize("text", ["{}", "[1]", '{"format": "keras_amm.MarginReport", "version": 2}'])
    def test_not_a_report(self, text):
        with pytest.raises(ValueError, match="Expected the JSON of a margin report"):
            MarginReport.from_json(text)

    def test_missing(self):
        content = json.loads(report_of().to_json())
        del content["norms"]
        with pytest.raises(ValueError, match=r"Missing: .'norms'"):
            MarginReport.from_json(json.dumps(content))


class TestPlot:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"norms": [0.0] * 4, "signed": [0.0] * 4},
            {"predictions": [0, 1, 2, 1]},
            {"predictions": [3, 3, 3, 3]},
            {"norms": [1.0, np.nan, np.inf, 0.5], "signed": [1.0, np.nan, np.inf, -1.0]},
        ],
    )
    def test_two_panels(self, changes, tmp_path):
        figure = report_of(**changes).plot()
        assert len(figure.axes) == 2
        assert all(axis.get_xlabel() and axis.get_ylabel() and axis.get_title() for axis in figure.axes)
        figure.savefig(tmp_path / "margins.png")
        assert (tmp_path / "margins.png").stat().st_size > 1000

    def test_histogram_counts_every_image(self):
        histogram = report_of().plot().axes[0]
        assert sum(bar.get_height() for bar in histogram.patches) == 4

    def test_given_axes(self):
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.subplots(1, 2)
        assert report_of().plot(axes) is figure
        with pytest.raises(ValueError, match="2 axes"):
            report_of().plot([axes[0]])

    def test_does_not_import_pyplot(self):
        before = "matplotlib.pyplot" in sys.modules
        report_of().plot()
        assert ("matplotlib.pyplot" in sys.modules) == before

    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ImportError, match=r"pip install matplotlib"):
            report_of().plot()
