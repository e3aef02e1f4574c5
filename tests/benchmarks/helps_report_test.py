"""The arithmetic and the page of `benchmarks.helps.report`, against values computed by hand."""

import pytest

from benchmarks.helps import records, verdicts
from benchmarks.helps.cells import CELLS
from benchmarks.helps.page import page
from benchmarks.helps.records import FOLDER, Key
from benchmarks.helps.verdicts import Results, judge, summarize
from paper.reproduce.planning import EXAMPLES

ROOT = EXAMPLES.parent


def record(error, margin, **others):
    return {
        "error_percent": error,
        "images": 1000,
        "margin": margin,
        "signed_mean": margin - 0.5,
        "robust_accuracy": 0.5,
        "training_accuracy": 0.9,
        "attack_success": 1.0,
        "largest_predicted_share": 0.3,
        "largest_label_share": 0.2,
        "epochs": 3,
        **others,
    }


PLAIN = [record(10.0, 1.0), record(12.0, 1.2), record(14.0, 0.8)]


def test_summary():
    summary = summarize([*PLAIN[:2], record(14.0, 0.8, attack_success=0.5, largest_predicted_share=0.97, epochs=6)])
    assert (summary.seeds, summary.error, summary.deviation, summary.epochs) == (3, 12.0, 2.0, 4)
    assert summary.margin == pytest.approx(1.0) and summary.attack_success == 0.5
    assert summary.is_constant and not summarize(PLAIN).is_constant
    assert summarize(PLAIN[:1]).deviation is None
    # Of labels that are nearly all of one class, predictions are as well.
    assert not summarize([record(1.0, 1.0, largest_predicted_share=0.97, largest_label_share=0.96)]).is_constant


@pytest.mark.parametrize(
    ("amm", "text"),
    [
        # Plain training: error 12 with a deviation of 2, margin 1.
        (record(14.0, 1.1), "holds"),
        (record(14.0, 1.3), "better"),
        (record(11.9, 1.1), "better"),
        (record(14.1, 1.3), "**fails: error**"),
        (record(11.9, 1.09), "**fails: margin**"),
        (record(50.0, 0.2), "**fails: error, margin**"),
        (record(11.9, 1.3, attack_success=0.98), "**fails: attack**"),
        (record(12.0, 1.3, largest_predicted_share=0.95), "**fails: constant**"),
    ],
)
def test_verdict(amm, text):
    verdict = judge(summarize(PLAIN), summarize([amm]))
    assert str(verdict) == text and verdict.is_better == (text == "better")


def test_of_one_seed_no_deviation_is_allowed_for():
    plain = summarize([record(12.0, 1.0)])
    assert str(judge(plain, summarize([record(12.0, 1.2)]))) == "holds"
    assert str(judge(plain, summarize([record(12.1, 1.2)]))) == "**fails: error**"


def test_one_image_is_allowed_for_where_the_seeds_are_alike():
    plain = summarize([record(4.0, 1.0, images=50)] * 3)
    assert str(judge(plain, summarize([record(6.0, 1.2)]))) == "holds"
    assert str(judge(plain, summarize([record(6.1, 1.2)]))) == "**fails: error**"


def test_gain_of_a_margin():
    assert verdicts.gains(1.0, 1.1, 1.1) and not verdicts.gains(1.0, 1.09, 1.1)
    assert verdicts.ratio(0.0, 2.0) is None and verdicts.ratio(0.5, 1.0) == 2.0


def test_arms_are_compared_over_the_seeds_that_all_have():
    of_seeds = {Key("mnist-mlp", "plain", seed): each for seed, each in enumerate(PLAIN)}
    results = Results({**of_seeds, Key("mnist-mlp", "amm", 1): record(9.0, 2.4), Key("mnist-mlp", "amm", 7): PLAIN[0]})
    plain, amm = results.of("mnist-mlp", "plain", "amm")
    assert (plain.seeds, plain.error, plain.margin, amm.error) == (1, 12.0, 1.2, 9.0)
    assert results.of("mnist-mlp", "plain", "amm", "pgd") is None
    assert Results(results.records, test=True).of("mnist-mlp", "plain", "amm") is None


def test_page():
    found = {}
    for seed in range(3):
        found[Key("mnist-mlp", "plain", seed)] = record(6.0 + seed, 1.0, training_accuracy=1.0)
        found[Key("mnist-mlp", "amm", seed)] = record(5.0 + seed, 1.5)
        found[Key("mnist-mlp", "paper", seed)] = record(7.5, 1.25)
        found[Key("mnist-mlp", "rough", seed)] = record(6.5, 1.375)
        found[Key("mnist-mlp", "hard", seed)] = record(4.5, 1.75)
        found[Key("mnist-mlp", "hard-clipped", seed)] = record(3.5, 1.625)
        found[Key("mnist-mlp", "noise", seed)] = record(5.5, 1.6, robust_accuracy=0.75)
    found[Key("mnist-mlp", "jacobian", 0)] = record(8.0, 2.0)
    found[Key("fashion-shirts", "plain", 0)] = record(14.0, 1.0)
    found[Key("fashion-shirts", "amm", 0)] = record(50.0, 3.0, largest_predicted_share=1.0, attack_success=0.01)
    found[Key("cifar10-cnn", "plain", 0)] = record(34.7, 0.3)
    text = page(found)
    assert (
        f"**Of {len(CELLS)} cells, 2 have been run: AMM is better in 1, holds in 0 more, and fails in 1.** Plain "
        "training fits its training set in 1 of them; AMM has fewer errors in 1 of these. Cells that have been run "
        "with fewer than 3 seeds: 1." in text
    )
    assert (
        "| `mnist-mlp` | MNIST, MLP | Adam, 32 | 5,000, 15 | 7.00% ± 1.00 → 6.00% ± 1.00 | 1.000 → 1.500 | 1.50 | 3 | "
        "better |" in text
    )
    assert (
        "| `fashion-shirts` | Fashion-MNIST, classes 0 and 6, CNN | Adam, 32 | 2,000, 8 | 14.00% → 50.00% | "
        "1.000 → 3.000 | 3.00 | 1 | **fails: error, attack, constant** |" in text
    )
    for cell in ("cifar10-cnn", "mnist-vit"):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{cell}` |"))
        assert line.count("not run") == 2 and line.count("|") == 10
    assert "| `mnist-mlp` | 7.00%, 1.00, 50% | 6.00%, 1.50, 50% | 7.50%, 1.25, 50% |" in text
    assert "| `mnist-mlp` | 7.00%, 1.00, 50% | 6.00%, 1.50, 50% | 6.50%, 1.38, 50% |" in text
    assert "| `mnist-mlp` | 7.00%, 1.00, 50% | 6.00%, 1.50, 50% | 4.50%, 1.75, 50% |" in text
    assert "| `mnist-mlp` | 7.00%, 1.00, 50% | 6.00%, 1.50, 50% | 3.50%, 1.62, 50% |" in text
    # Seeds 0 to 2 of AMM have 6% errors on average, seed 0 alone has 5%.
    of_three, of_one = text.split("With 3 seeds: Gaussian noise.\n")[1].split("With 1 seed: Jacobian penalty.\n")
    assert "| `mnist-mlp` | 6.00%, 1.50, 50% | **5.50%, 1.60, 75%** |" in of_three
    assert "| `mnist-mlp` | 5.00%, 1.50, 50% | 8.00%, 2.00, 50% |" in of_one
    assert "Not run: longer plain training, label smoothing, weight decay, PGD training." in of_one
    assert "| Gaussian noise | 3 | 1 | 1 | 1 | 1 | 1 |" in text and "\n| PGD training |" not in text
    assert "## On test images\n\nNot run." in text
    found[Key("mnist-mlp", "plain", 0, True)] = found[Key("mnist-mlp", "amm", 0, True)] = record(6.0, 1.0)
    assert "1 have been run: AMM is better in 0, holds in 0 more, and fails in 1." in page(found)


def test_page_of_no_record():
    text = page({})
    assert f"Of {len(CELLS)} cells, 0 have been run" in text and text.count("\nNot run.") == 6


def test_the_page_in_the_repository_is_that_of_its_records():
    folder = ROOT / FOLDER
    found = records.read_all(folder)
    for record in found.values():
        assert record["versions"]["revision"] and not record["versions"]["revision"].endswith("-dirty")
    assert (ROOT / "docs/results/helps.md").read_text() == page(found)
