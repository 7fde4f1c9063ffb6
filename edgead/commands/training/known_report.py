"""Report of the known defects of a training: how many are found, judged by choices that had not seen them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.known_choice import Judgement
from edgead.commands.training.threshold_images import SHOWN, write_sheet
from edgead.data.dataset import Sample
from edgead.evaluation.threshold import wilson_interval
from edgead.imaging import Image
from edgead.prediction import HeatmapScale
from edgead.printable import path_text
from edgead.storage import write_json

SHEET = "missed-defects.png"
RECORD = "known-defects.json"
N_KNOWN, N_FOUND = "known_defects", "known_defects_found"


def found_text(n: int, n_found: int) -> str:
    """How many known defects are found, with the 95 % Wilson interval, as a sentence without its end."""
    low, high = wilson_interval(n_found, n)
    return (
        f"{n} known defects: {n_found} found at the threshold, each judged by a choice that had not seen it (95 % interval "
        f"{low:.0%} to {high:.0%})"
    )


@dataclass(frozen=True)
class KnownReport:
    """Known defects with their judgements.

    Attributes:
        samples: The known defects.
        judgements: Judgement of each by a form that was chosen without it.
        maps: Anomaly maps `(n, h, w)` of the finished model, float32.
        n_others: Number of them whose judge is of another form than the model.
    """

    samples: tuple[Sample, ...]
    judgements: tuple[Judgement, ...]
    maps: NDArray[np.float32]
    n_others: int

    @property
    def n_found(self) -> int:
        return sum(one.is_found for one in self.judgements)

    @property
    def metrics(self) -> dict[str, float]:
        """Counts for the record of the bundle."""
        return {N_KNOWN: float(len(self.samples)), N_FOUND: float(self.n_found)}

    @property
    def missed(self) -> tuple[int, ...]:
        """Numbers of the known defects that are not found."""
        return tuple(number for number, one in enumerate(self.judgements) if not one.is_found)

    def write(self, run: Path, scale: HeatmapScale, read: Callable[[Sample], Image]) -> None:
        """Write all judgements as JSON, and draw the missed defects with the highest scores.

        Args:
            run: Folder of the run.
            scale: Colour scale of the heatmaps.
            read: Function that reads an image, RGB.
        """
        write_json(run / RECORD, [_record(*pair) for pair in zip(self.samples, self.judgements, strict=True)])
        if self.missed:
            samples = [self.samples[number] for number in self.missed]
            scores = [self.judgements[number].score for number in self.missed]
            write_sheet(run / SHEET, samples, scores, self.maps[list(self.missed)], scale, read)

    def note(self, run: Path) -> str:
        """Sentences for the user."""
        text = f"{found_text(len(self.samples), self.n_found)}."
        if self.n_others:
            text += (
                f" Without them, another form would have been chosen for {self.n_others} of them, which judged them: see "
                f"{run / RECORD}."
            )
        if self.missed:
            names = ", ".join(f"{path_text(self.samples[number].name)}" for number in self.missed[:3])
            more = ", …" if len(self.missed) > 3 else ""
            text += f" Missed: {names}{more}; {run / SHEET} shows the {min(SHOWN, len(self.missed))} with the highest scores."
        return text


def _record(sample: Sample, judgement: Judgement) -> dict[str, Any]:
    return {
        "name": path_text(sample.name),
        "kind": sample.defect,
        "score": judgement.score,
        "threshold": judgement.threshold,
        "found": judgement.is_found,
        "judged_by": judgement.choice.describe(),
    }
