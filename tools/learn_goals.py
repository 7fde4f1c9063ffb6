"""Measure what `edgead learn` costs and keeps: `python -m tools.learn_goals BUNDLE --alarms DIR --defects DIR --json FILE`.

Pictures of `--alarms` that raise an alarm are learned one after the other and the versions installed in a store, each in a process of its
own, whose wall and processor time and largest memory are printed; the first one also makes the probes. With `--repeat` each is learned
as often, and the medians of the times and the largest memory are printed. Twenty other twins of each are judged before and after.
Of `--defects`, pictures of one kind of defect, the first half by the number in the name is clicked as good, once without and
once with `--sure`; the other half, other parts, says how many are found before and after. Nothing is tuned by these pictures.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgead.bundle import Bundle, open_bundle
from edgead.commands.learned_bundle import JudgedPicture, learn_pictures, stored_digest
from edgead.commands.model import InstallOptions, install
from edgead.data.reader import read_image
from edgead.engines.onnx_runner import OnnxRunner
from edgead.imaging import Image
from edgead.line.model_store import ModelStore
from edgead.manifest import POOLED
from edgead.progress import Silent
from edgead.storage import write_json
from edgead.teach.learner import twin

TWINS = 20
MOST_SECONDS, MOST_MB, SILENT = 2.0, 300.0, 0.9


@dataclass(frozen=True)
class Learning:
    """One picture that was learned, or refused.

    Attributes:
        name: Its file.
        has_probes: Whether the bundle had its probes already.
        refusal: Why it is not learned; None if it is.
        seconds: Wall time of learning and writing the bundle.
        processor_s: Its processor time.
        install_s: Processor time of the installation after it, with the engine and its checks.
        whole_s: Processor time of the whole process, with the start of Python and all imports.
        peak_mb: Largest resident memory of the process.
        alarming_before, alarming_after: Share of its twins that raise an alarm.
    """

    name: str
    has_probes: bool
    refusal: str | None
    seconds: float
    processor_s: float
    install_s: float
    whole_s: float
    peak_mb: float
    alarming_before: float = 1.0
    alarming_after: float = 1.0


@dataclass(frozen=True)
class Clicks:
    """Defects clicked as good.

    Attributes:
        sure: Whether all were confirmed with `--sure`.
        n_clicked: Number of pictures clicked.
        outcomes: Number of pictures by what came of them: `learned`, `warned`, or why they were refused.
        found_before, found_after: Share of other parts with this kind of defect that are found.
        n_other: Number of these.
    """

    sure: bool
    n_clicked: int
    outcomes: dict[str, int]
    found_before: float
    found_after: float
    n_other: int


def main(arguments: list[str] | None = None) -> int:
    """Print each goal, and write all numbers as JSON where asked; 1 if a goal is missed."""
    options = _parser().parse_args(arguments)
    if options.measure is not None:
        print(json.dumps(_measured(options.bundle, options.measure, options.out, options.store)))
        return 0
    bundle = open_bundle(options.bundle)
    with tempfile.TemporaryDirectory(prefix="edgead-") as name:
        learnings = (
            _learnings(bundle, options.alarms, options.count, options.repeat, Path(name)) if options.alarms else []
        )
        clicks = (
            [_clicks(bundle, options.defects, options.clicks, sure, Path(name)) for sure in (False, True)]
            if options.defects
            else []
        )
    if options.json is not None:
        write_json(
            options.json, {"learnings": [asdict(one) for one in learnings], "clicks": [asdict(one) for one in clicks]}
        )
    return int(not _report(learnings, clicks))


def _report(learnings: list[Learning], clicks: list[Clicks]) -> bool:
    for one in learnings:
        print(
            f"{one.name}: {one.refusal or 'learned'}, {one.seconds:.2f} s ({one.processor_s:.2f} s of processor time, and "
            f"{one.install_s:.2f} s to install; the whole process {one.whole_s:.2f} s), "
            f"{one.peak_mb:.0f} MB{'' if one.has_probes else ', with the probes'}; twins alarming {one.alarming_before:.0%} "
            f"before, {one.alarming_after:.0%} after"
        )
    goals = []
    learned = [one for one in learnings if one.refusal is None]
    later = [one for one in learned if one.has_probes]
    if later:
        seconds, peak = max(one.processor_s for one in later), max(one.peak_mb for one in later)
        text = f"under {MOST_SECONDS:g} s of processor time once the probes are there"
        goals.append((text, seconds < MOST_SECONDS, f"{seconds:.2f} s"))
        goals.append((f"under {MOST_MB:g} MB", peak < MOST_MB, f"{peak:.0f} MB"))
    if learned:
        silent = 1.0 - float(np.mean([one.alarming_after for one in learned]))
        goals.append((f"at least {SILENT:.0%} of the twins silent", silent >= SILENT, f"{silent:.0%}"))
    for one_click in clicks:
        way = "with --sure" if one_click.sure else "without --sure"
        print(
            f"{one_click.n_clicked} defects clicked as good {way}: {one_click.outcomes}; of {one_click.n_other} others "
            f"{one_click.found_before:.1%} found before, {one_click.found_after:.1%} after"
        )
        noticed = one_click.found_after >= one_click.found_before or any(
            key not in ("learned", "silent") for key in one_click.outcomes
        )
        change = f"{one_click.found_before:.1%} to {one_click.found_after:.1%}"
        goals.append((f"no lower detection unnoticed, {way}", noticed, change))
    for text, is_met, seen in goals:
        print(f"{'met' if is_met else 'MISSED'}: {text} ({seen})")
    return all(is_met for _, is_met, _ in goals)


def _learnings(bundle: Bundle, folder: Path, count: int, repeat: int, scratch: Path) -> list[Learning]:
    found: list[Learning] = []
    store = scratch / "models"
    install(ModelStore(store), bundle.path, Silent(), InstallOptions(who="tools.learn_goals"))
    for file in _pictures(folder):
        image = read_image(file, **bundle.manifest.preprocessing.reading)
        if _share_alarming(bundle, [image]) == 0.0:
            continue
        runs = []
        for turn in range(repeat):
            out = scratch / f"version-{len(found)}-{turn}"
            command = [sys.executable, "-m", "tools.learn_goals", str(bundle.path)]
            command += ["--measure", str(file), "--out", str(out), "--store", str(store)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(Learning(**json.loads(done.stdout.splitlines()[-1])))
        one = _middle(runs)
        if one.refusal is None:
            new = open_bundle(out)
            twins = [twin(bundle.preprocess(image), 4711, number) for number in range(TWINS)]
            one = replace(
                one,
                alarming_before=_share_alarming(bundle, twins),
                alarming_after=_share_alarming(new, twins),
            )
            bundle = new
        found.append(one)
        if sum(learning.refusal is None for learning in found) == count:
            break
    return found


def _middle(runs: list[Learning]) -> Learning:
    """Medians of the times, and the largest memory, of the same picture."""

    def median(name: str) -> float:
        return float(np.median([getattr(one, name) for one in runs]))

    return replace(
        runs[-1],
        seconds=median("seconds"),
        processor_s=median("processor_s"),
        install_s=median("install_s"),
        whole_s=median("whole_s"),
        peak_mb=max(one.peak_mb for one in runs),
    )


def _measured(path: Path, file: Path, out: Path, store: Path) -> dict[str, Any]:
    """Learn one picture in this process, and say what it cost."""
    started, before = time.monotonic(), time.process_time()
    bundle = open_bundle(path)
    result = learn_pictures(bundle, out, [_judged(bundle, file)], Silent(), sure=True)
    seconds, learned = time.monotonic() - started, time.process_time()
    if result.bundle is not None:
        install(
            ModelStore(store),
            result.bundle,
            Silent(),
            InstallOptions(activate=True, who="tools.learn_goals", is_compared=True),
        )
    return {
        "name": file.name,
        "has_probes": bool(bundle.manifest.provenance.learned),
        "refusal": result.outcomes[0][1].refusal,
        "seconds": seconds,
        "processor_s": learned - before,
        "install_s": time.process_time() - learned,
        "whole_s": time.process_time(),
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Largest resident memory of this process; `getrusage` counts that of the process that started it too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _clicks(bundle: Bundle, folder: Path, count: int, sure: bool, scratch: Path) -> Clicks:
    files = sorted(_pictures(folder), key=_number)
    clicked, others = files[: min(count, len(files) // 2)], files[len(files) // 2 :]
    images = [read_image(file, **bundle.manifest.preprocessing.reading) for file in others]
    result = learn_pictures(
        bundle, scratch / f"clicks-{sure}", [_judged(bundle, file) for file in clicked], Silent(), sure=sure
    )
    outcomes: Counter[str] = Counter(
        outcome.refusal or ("warned" if outcome.warning else "learned") for _, outcome in result.outcomes
    )
    before = _share_alarming(bundle, images)
    after = before if result.bundle is None else _share_alarming(result.bundle, images)
    return Clicks(sure, len(clicked), dict(outcomes), before, after, len(others))


def _share_alarming(bundle: Bundle, images: list[Image]) -> float:
    threshold = bundle.manifest.thresholds[POOLED].threshold.value
    with OnnxRunner(bundle.model_path, threads=0, engine_name="reference") as runner:
        scores = [float(runner.infer(bundle.preprocess(image)[None])["pred_score"][0]) for image in images]
    return float(np.mean(np.asarray(scores) > threshold))


def _judged(bundle: Bundle, file: Path) -> JudgedPicture:
    image = bundle.preprocess(read_image(file, **bundle.manifest.preprocessing.reading))
    return JudgedPicture(file.name, stored_digest(file.read_bytes()), image, "tools.learn_goals")


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"))


def _number(path: Path) -> tuple[int, str]:
    """Last number in the name: photographs of one part have neighbouring ones in the data set of magnetic tiles."""
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else 0, path.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="bundle with a closed-form model")
    parser.add_argument("--alarms", type=Path, help="folder of pictures, of which those that alarm are learned")
    parser.add_argument("--count", type=int, default=3, help="number of them to learn")
    parser.add_argument("--repeat", type=int, default=1, help="how often each of them is learned, for medians")
    parser.add_argument("--defects", type=Path, help="folder of pictures with one kind of defect")
    parser.add_argument("--clicks", type=int, default=50, help="number of them to click as good, at most half")
    parser.add_argument("--json", type=Path, help="write the numbers into this file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
