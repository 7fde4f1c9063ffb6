"""Show that scores and JSON keys are unchanged: `python -m tools.score_digest DATA_ROOT --out FOLDER`.

Writes SHA-256 digests of bundles, thresholds and evaluations of 23 trainings, and prints differences. It trains every case of the table over the command line on one CPU
thread, evaluates it with the reference engine and writes `FOLDER/result.json`. For the first case it also lists the
JSON keys of bench, doctor, build-engine and `alerts list`. To compare two versions of the code::

    git worktree add ../before v0.1.0
    python -m tools.score_digest DATA_ROOT --out /tmp/before --code ../before
    python -m tools.score_digest DATA_ROOT --out /tmp/after --against /tmp/before/result.json

DATA_ROOT holds `magnetic_tile`, `pcb` and `solar_cell_mono` in the layout of MVTec AD. A case whose bundle exists is not
trained again, so an interrupted run continues; use a new folder for other code. Digests are equal only on the same
machine with the same package versions.

Exit codes: 0 = done, and equal if compared; 1 = a command failed; 4 = a difference.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.bundle_files import MANIFEST
from edgead.migration import upgrade_manifest
from edgead.storage import write_json

ROOT = Path(__file__).parents[1]
SETS = ("magnetic_tile", "pcb", "solar_cell_mono")
SMALL = ("model.image_size=128", "train.epochs=1", "train.cache_memory_mb=4000")
COMPARED = ("files", "scores", "eval", "keys", "bundle_keys", "outputs")

CaseResult = dict[str, Any]
Result = dict[str, CaseResult]


class CommandFailed(Exception):
    """A verb that did not exit with 0; the message holds the end of its stderr."""


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        data: Folder below the data root; `.` is the root itself, with all its classes.
        model: Name of the detector.
        settings: Overrides `section.key=value`.
    """

    data: str
    model: str
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the case and of its folder: data set, model and distinguishing settings."""
        shown = [text.split("=")[1] for text in self.settings if not text.startswith("train") and "size" not in text]
        return f"{self.data.replace('.', 'all')}-{self.model}-{'-'.join(shown)}"


def table() -> tuple[Case, ...]:
    """List the cases: the default detector as shipped, all others small; both couplings where they are quick."""
    cases = [Case(data, "usf") for data in SETS]
    for data in SETS:
        for model in ("fastflow", "cflow", "uflow", "vae-usf"):
            couplings = ("affine", "uniform") if data == "pcb" else ("affine",)
            cases += [Case(data, model, (*SMALL, f"model.coupling={coupling}")) for coupling in couplings]
    cases += [Case(".", "hgad", (*SMALL, f"model.coupling={coupling}")) for coupling in ("affine", "uniform")]
    cases.append(Case("pcb", "usf", (*SMALL, "model.segmentation=nfa")))
    cases.append(Case("pcb", "fastflow", (*SMALL, "model.coupling=uniform", "model.base=altub")))
    return tuple(cases)


@dataclass(frozen=True)
class Cli:
    """The command line of one checkout.

    Attributes:
        python: Interpreter with the dependencies.
        code: Root of the checkout; its `edgead` package is run.
    """

    python: str
    code: Path

    def run(self, *arguments: object) -> str:
        """Run one verb on one thread and return its stdout.

        Raises:
            CommandFailed: If it exits with another code than 0.
        """
        words = [str(argument) for argument in arguments]
        single = {"PYTHONPATH": str(self.code), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            [self.python, "-m", "edgead", *words],
            env={**os.environ, **single},
            cwd=self.code,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CommandFailed(f"edgead {' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout


def digest(cli: Cli, case: Case, data: Path, out: Path, extra: Sequence[str] = ()) -> CaseResult:
    """Train a case if its bundle is missing, evaluate it, and digest both.

    Args:
        cli: Command line to run.
        case: Case to train.
        data: Root folder of the data sets.
        out: Folder of all cases.
        extra: Further settings of the training.
    """
    folder = out / case.name
    bundle = folder / "bundle"
    if not (bundle / "bundle.json").is_file():
        options = [part for text in (*case.settings, *extra) for part in ("--set", text)]
        arguments = ("--data", data / case.data, "--model", case.model, "--out", folder)
        cli.run("train", *arguments, "--set", "train.device=cpu", *options)
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    report = folder / "eval.json"
    cli.run("eval", bundle, "--data", data / case.data, "--engine", "reference", "--json", report)
    evaluation = json.loads(report.read_text(encoding="utf-8"))
    return {
        # that of the manifest itself changes with the time of the training
        "files": {name: digest for name, digest in manifest["sha256"].items() if name != MANIFEST},
        "scores": _sha256(upgrade_manifest(manifest)["thresholds"]),
        "eval": _sha256(evaluation, str(out)),
        "keys": sorted(json_keys(evaluation)),
        "bundle_keys": sorted(json_keys(upgrade_manifest(manifest))),
        "image_auroc": evaluation["mean"]["image_auroc"],
    }


def output_keys(cli: Cli, case: Case, data: Path, out: Path) -> dict[str, list[str]]:
    """JSON keys of the verbs that print an object, on the bundle of a trained case."""
    bundle, alerts = out / case.name / "bundle", out / "alerts"
    # a rate and a rule at which some test images alarm, for a list that is not empty
    rule = ("--false-alarm-rate", "0.45", "--set", "alerts.open_frames=1", "--set", "alerts.window_frames=1")
    source = ("--source", data / case.data / "test", "--max-frames", "120", "--engine", "reference")
    cli.run("stream", bundle, *source, "--alerts", alerts, *rule)
    verbs: dict[str, tuple[object, ...]] = {
        "alerts list": ("--alerts", alerts, "--json"),
        "bench": (bundle, "--engine", "reference", "--frames", "5", "--json", "-"),
        "build-engine": (bundle, "--backend", "onnxruntime", "--rebuild", "--json"),
        "doctor": ("--json",),
    }
    return {name: sorted(json_keys(json.loads(cli.run(*name.split(), *words)))) for name, words in verbs.items()}


def json_keys(value: Any, at: str = "") -> set[str]:
    """Collect the paths of all keys in JSON, such as `.mean.n_good` and `.alerts[].id`."""
    if isinstance(value, dict):
        return {f"{at}.{key}" for key in value}.union(*(json_keys(part, f"{at}.{key}") for key, part in value.items()))
    if isinstance(value, list):
        return set[str]().union(*(json_keys(part, f"{at}[]") for part in value))
    return set()


def differences(result: Result, other: Result) -> Iterator[str]:
    """Yield one line per difference; a field that one side never recorded is not compared.

    Args:
        result: Result of this run.
        other: Result to compare with.
    """
    for name in sorted(result.keys() | other.keys()):
        if name not in result or name not in other:
            yield f"{name}: only in the {'other result' if name in other else 'new result'}"
            continue
        for field in COMPARED:
            if field in result[name] and field in other[name]:
                yield from _field_differences(f"{name}: {field}", result[name][field], other[name][field])


def _field_differences(name: str, new: Any, old: Any) -> Iterator[str]:
    if new == old:
        return
    if isinstance(new, dict):
        for key in sorted(new.keys() | old.keys()):
            yield from _field_differences(f"{name} {key}", new.get(key), old.get(key))
    elif isinstance(new, list) and isinstance(old, list):
        yield from (f"{name}: new {key}" for key in sorted(set(new) - set(old)))
        yield from (f"{name}: missing {key}" for key in sorted(set(old) - set(new)))
    else:
        yield f"{name}: {new} is not {old}"


def _sha256(value: Any, folder: str = "") -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256((text.replace(folder, "OUT") if folder else text).encode()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Run the cases, write the result and compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA_ROOT", help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for bundles, evaluations and result.json")
    parser.add_argument("--code", type=Path, default=ROOT, help="checkout to run; default: this one")
    parser.add_argument("--python", default=sys.executable, help="interpreter to run it with; default: this one")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="only cases that match, such as 'pcb-*'")
    parser.add_argument("--set", dest="extra", action="append", default=[], help="further setting of every training")
    parser.add_argument("--against", type=Path, metavar="RESULT", help="result.json to compare with")
    options = parser.parse_args(arguments)
    cases = [case for case in table() if fnmatch.fnmatch(case.name, options.only)]
    if not cases:
        parser.error(f"no case matches {options.only!r}")
    cli = Cli(options.python, options.code.resolve())
    data, out = options.data.resolve(), options.out.resolve()
    result: Result = {}
    failed = 0
    for case in cases:
        try:
            result[case.name] = digest(cli, case, data, out, options.extra)
            if case is cases[0]:
                result[case.name]["outputs"] = output_keys(cli, case, data, out)
        except CommandFailed as error:
            failed += 1
            print(error, file=sys.stderr)
            continue
        write_json(out / "result.json", result)
        print(f"{case.name:<40} {result[case.name]['eval'][:12]}", flush=True)
    if failed:
        return 1
    return compare(result, options.against, options.only) if options.against else 0


def compare(result: Result, against: Path, pattern: str) -> int:
    """Print the differences from another result in the cases that match a pattern; returns the exit code."""
    other: Result = json.loads(against.read_text(encoding="utf-8"))
    lines = list(differences(result, {name: case for name, case in other.items() if fnmatch.fnmatch(name, pattern)}))
    print("\n".join(lines) or f"{len(result)} cases are equal to those of {against}.")
    return 4 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
