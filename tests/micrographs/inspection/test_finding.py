"""How findings of one kind become one."""

import dataclasses

from sem_search.micrographs.inspection.finding import Finding, join_findings


def make_finding(number: int, kind: str = "same_field", severity: str = "warning") -> Finding:
    return Finding(
        kind=kind,
        severity=severity,  # type: ignore[arg-type]
        message=f"Case {number}. Do this.",
        advice="Do this.",
        images=(f"{number % 4}.png",),
        classes=("salt", f"{number % 2}"),
    )


def test_findings_of_one_kind_are_one_with_examples_and_what_to_do_told_once() -> None:
    findings = [make_finding(number) for number in range(665)]
    (joined,) = join_findings(findings)
    assert joined.message == "665 times, on 4 images: Case 0. Case 1. Case 2. And 662 more. Do this."
    assert joined.images == ("0.png", "1.png", "2.png", "3.png")
    assert joined.classes == ("0", "1", "salt")
    assert joined.details == tuple(f"Case {number}." for number in range(665))
    (three,) = join_findings(findings[:3])
    assert three.message == "3 times, on 3 images: Case 0. Case 1. Case 2. Do this."


def test_single_findings_other_kinds_and_sums_stay_as_they_are() -> None:
    others = [make_finding(0), make_finding(1, "zoomed_field"), make_finding(2, severity="error")]
    assert join_findings(others) == others
    assert join_findings([]) == []
    sums = [dataclasses.replace(make_finding(number), advice="") for number in range(5)]
    assert join_findings(sums) == sums, "causes without one advice for all of them"
