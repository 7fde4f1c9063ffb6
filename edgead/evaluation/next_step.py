"""An evaluation in plain sentences: what was found, and what to do next."""

from __future__ import annotations

from edgead.evaluation.evaluate import EvaluationResult, Rate


def totals(result: EvaluationResult) -> tuple[Rate, Rate]:
    """Found defects and false alarms of all classes together, each class at its own threshold."""
    parts = result.classes.values()
    return _sum([part.detections for part in parts]), _sum([part.false_alarms for part in parts])


def found_in_words(result: EvaluationResult) -> str:
    """How many defective images were found, and how many good ones raised a false alarm."""
    found, alarms = totals(result)
    detected = f"{found.k} of {found.n} defective images were found" if found.n else "There was no defective image"
    false = f"{alarms.k} of {alarms.n} good images raised a false alarm" if alarms.n else "there was no good image"
    return f"{detected}, and {false}."


def next_step(result: EvaluationResult) -> str:
    """Advice for the next step, one to three sentences; docs/improve.md has the measured effects."""
    found, alarms = totals(result)
    steps = []
    if found.k < found.n:
        steps.append(
            "Look at the missed images: where you can hardly see the defect yourself, improve the view (light, focus, "
            'distance); otherwise see docs/improve.md, "It finds too little".'
        )
    if alarms.k:
        steps.append(
            "Look at the false alarms: if those parts are really good, add more good images like them and train again; "
            'see docs/improve.md, "It alarms too much".'
        )
    missing = ([] if found.n else ["images with known defects in test/<defect>"]) + (
        [] if alarms.n else ["good images in test/good"]
    )
    if missing:
        steps.append(f"Add {' and '.join(missing)}: without them half of the answer is missing.")
    if not steps:
        steps.append("Watch a camera with edgead stream --camera 0, and judge its alerts.")
    return f"Next: {' '.join(steps)}"


def _sum(rates: list[Rate]) -> Rate:
    return Rate(sum(rate.k for rate in rates), sum(rate.n for rate in rates))
