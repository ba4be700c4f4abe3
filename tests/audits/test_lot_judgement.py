"""A new lot against a reference: verdict, chart and words."""

import dataclasses
import json

import numpy as np
import pytest

from sem_search.audits.lot_judgement import audit_new_lot, iter_judgement_entries
from sem_search.audits.lot_judgement_answer import describe_judgement
from sem_search.errors import DataError
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.entries.types import Metrics
from tests.audits.lots import make_lot, make_reference


def test_a_lot_of_the_process_is_equivalent() -> None:
    audit = audit_new_lot(make_lot(20), reference=make_reference())
    assert audit.judgement.verdict == "equivalent"
    text = audit.to_text()
    assert "Equivalent. It lies " in text
    assert "The upper one lies within the margin of 3." in text
    assert "No difference in the size, shape or surface of the particles is clear." in text
    assert audit.table["lot"].tolist()[-1] == "lot-20"
    assert audit.table["is_new"].tolist() == [False] * 8 + [True]


def test_a_lot_far_off_is_different_and_what_is_different_is_said() -> None:
    new = make_lot(20, step=12.0, larger=0.5, pixel_size="7 nm")
    audit = audit_new_lot(new, reference=make_reference())
    assert audit.judgement.verdict == "different"
    assert audit.chart[-1].point.distance > audit.chart[-1].point.action_limit
    (larger,) = [shift for shift in audit.shifts if shift.is_clear]
    text = audit.to_text()
    assert f"The particles are {100 * larger.change:.0f} % larger than those of the reference lots." in text
    assert larger.change == pytest.approx(0.5, abs=0.15)
    assert "The pixel size of lot-20 is 7 nm, and of the reference lots 5 nm" in text
    assert text.endswith("But see below how it was imaged.")
    assert "beyond the action limit" in text


def test_lots_stand_by_date_where_all_have_one() -> None:
    audit = audit_new_lot(make_lot(20, acquired_at="2026-04-01T10:00:00"), reference=make_reference())
    names = [lot.lot for lot in audit.chart]
    assert names == ["lot-7", "lot-6", "lot-5", "lot-20", "lot-4", "lot-3", "lot-2", "lot-1", "lot-0"]
    undated = audit_new_lot(make_lot(20), reference=make_reference())
    assert [lot.lot for lot in undated.chart][::8] == ["lot-0", "lot-20"]


def test_diameters_in_pixels_are_not_compared_with_those_in_nanometres() -> None:
    named = [shift.name for shift in audit_new_lot(make_lot(20), reference=make_reference()).shifts]
    unknown = make_lot(20, pixel_size="not known")
    left = [shift.name for shift in audit_new_lot(unknown, reference=make_reference()).shifts]
    assert named[0] == "equivalent diameter"
    assert left == named[1:]


def test_a_lot_of_the_reference_is_not_judged_by_it() -> None:
    reference = make_reference()
    with pytest.raises(DataError, match="lots lot-2 and again hold the same picture"):
        audit_new_lot(dataclasses.replace(reference.lots[2], name="again"), reference=reference)


def test_what_cannot_be_said_and_what_would_help() -> None:
    judgement = audit_new_lot(make_lot(20), reference=make_reference()).judgement
    unclear = dataclasses.replace(
        judgement, verdict="unclear", distance=Interval(value=2.5, low=1.0, high=4.0), n_images_needed=12
    )
    assert describe_judgement(unclear).endswith(
        "about 12 images of the new lot instead of 6, and 2 times as many of each other lot would decide."
    )
    both = dataclasses.replace(unclear, n_lots_needed=16)
    assert "of each other lot or a reference of about 16 lots instead of 8 would decide." in describe_judgement(both)
    neither = dataclasses.replace(unclear, n_images_needed=None)
    assert describe_judgement(neither).endswith("would not decide by themselves.")


def test_words_numbers_and_the_chart_are_written() -> None:
    audit = audit_new_lot(make_lot(20), reference=make_reference())
    *files, metrics = iter_judgement_entries(audit, command="do")
    by_path = {file.path: file for file in files}  # type: ignore[union-attr]
    assert list(by_path) == ["lots.txt", "lots.json", "control_chart.png", "lots.html", "control_chart.csv"]
    assert json.loads(json.dumps(by_path["lots.json"].content, allow_nan=False))["judgement"]["verdict"] == "equivalent"
    (axes,) = by_path["control_chart.png"].draw().axes
    shown = np.concatenate([np.asarray(points.get_offsets())[:, 1] for points in axes.collections])
    assert sorted(shown) == sorted(lot.point.distance for lot in audit.chart)
    assert [label.get_text() for label in axes.get_xticklabels()] == [lot.lot for lot in audit.chart]
    assert len(by_path["control_chart.csv"].rows) == 9
    assert isinstance(metrics, Metrics)
    values = {point.key: point.value for point in metrics.points}
    assert values["lots/is_equivalent"] == 1
    assert values["lots/distance"] == audit.judgement.distance.value
