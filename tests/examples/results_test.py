"""The records in the repository are those of today's scripts: these skip them, and report them."""

import json

import pytest

from paper.reproduce import planning, records
from paper.variants import comparison
from paper.variants.lenet import LENET_VARIANTS
from paper.variants.lin import LIN_VARIANTS

RESULTS = planning.EXAMPLES.parent / "results"


def test_every_record_has_its_place_in_the_report():
    found = records.read_records(RESULTS / "records")
    assert len(found) > 50 and records.reported_records(found).keys() == found.keys()


@pytest.mark.parametrize(
    ("folder", "variants"), [("lenet_variants", LENET_VARIANTS), ("lin_variants", LIN_VARIANTS)], ids=["lenet", "lin"]
)
def test_every_file_of_a_variant_is_of_the_variant_of_its_name(folder, variants, capsys):
    paths = sorted((RESULTS / folder).iterdir())
    assert len(paths) > 20

    def train(variant, training):
        raise AssertionError(f"{variant} was trained.")

    for path in paths:
        result = json.loads(path.read_text())
        suffix = (
            f"{'test.' if result.get('measured_on') == 'test' else ''}epochs-{result['epochs']}.seed-{result['seed']}"
        )
        name = path.stem.removesuffix(f".{suffix}")
        arguments = result["seed"] + 1, result["epochs"], RESULTS / folder, result.get("measured_on") == "test"
        comparison.compare({name: variants[name]}, train, *arguments)
        assert f"{result['error_percent']:.2f}%" in capsys.readouterr().out
