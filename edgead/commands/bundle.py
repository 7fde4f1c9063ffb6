"""`edgead bundle`: check and describe a bundle."""

from __future__ import annotations

from pathlib import Path

from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import ENGINES, MANIFEST
from edgead.commands.training.known_report import N_FOUND, N_KNOWN, found_text
from edgead.engines.opening import present_engines
from edgead.evaluation.stored_thresholds import check_thresholds
from edgead.evaluation.threshold import ASSUMPTION, images_to_certify, rate_interval
from edgead.manifest import MaskRule, NfaThreshold, ThresholdRecord

# What a training ends with, the thresholds of its classes besides; `edgead bundle info` has the rest.
FIRST_FACTS = ("path", "input", "images", "threshold all", "size")


def first_facts(facts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of `bundle_facts` that people need first; the threshold of a single class is that of all."""
    thresholds = [name for name, _ in facts if name.startswith("threshold ")]
    wanted = {*FIRST_FACTS, *(thresholds if len(thresholds) > 2 else ())}
    return [(name, value) for name, value in facts if name in wanted]


def bundle_facts(path: Path) -> list[tuple[str, str]]:
    """Verify a bundle and describe it as names and values.

    Raises:
        BundleError: If the bundle does not verify.
    """
    bundle = _verified(path)
    manifest = bundle.manifest
    height, width = bundle.image_size
    provenance = manifest.provenance
    parity, cost = manifest.parity, manifest.cost
    facts = [
        ("path", str(bundle.path)),
        ("model", f"{manifest.model} (edgead {manifest.edgead_version}, schema {manifest.schema_version})"),
        ("classes", ", ".join(manifest.classes)),
        ("input", f"{height} x {width} px RGB, map {manifest.graph.map_size[0]} x {manifest.graph.map_size[1]}"),
        ("trained", f"{provenance.created_at} on {provenance.data_root}, seed {provenance.seed}"),
        ("images", ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in provenance.n_images.items())),
    ]
    if (taught := provenance.taught) is not None:
        left_out = ", ".join(f"{count} {kind}" for kind, count in sorted(taught.left_out.items()))
        facts.append(
            (
                "taught",
                f"version {taught.version} on {taught.host}, base bundle {taught.base_digest[:12]}…, pictures left out: "
                f"{left_out or 'none'}",
            )
        )
    if provenance.learned:
        last, n = provenance.learned[-1], len(provenance.learned)
        facts.append(
            ("learned", f"{n} false alarm{'' if n == 1 else 's'}, the last one {last.alert} at {last.learned_at}")
        )
    if provenance.dataset_snapshot:
        facts.append(("data set snapshot", provenance.dataset_snapshot))
    if N_KNOWN in provenance.metrics:
        n, n_found = round(provenance.metrics[N_KNOWN]), round(provenance.metrics[N_FOUND])
        facts.append(("known defects", found_text(n, n_found)))
    facts += [(f"threshold {name}", _threshold_text(bundle, name)) for name in manifest.thresholds]
    if manifest.nfa is not None:
        facts += [(f"regions {name}", _nfa_text(part)) for name, part in manifest.nfa.thresholds.items()]
    if manifest.mask_rule is not None:
        name = "regions all" if manifest.class_mask_rules else "regions"
        facts.append((name, _mask_rule_text(manifest.mask_rule)))
    facts += [(f"regions {name}", _mask_rule_text(rule)) for name, rule in manifest.class_mask_rules.items()]
    facts += [
        (
            "parity",
            f"ONNX {parity.onnx_vs_unfolded:.1e} relative to the scores computed without the graph, "
            f"{parity.verdict_flips} verdicts flip"
            if taught is not None
            else f"folded {parity.folded_vs_unfolded:.1e}, ONNX {parity.onnx_vs_unfolded:.1e} relative to unfolded torch, "
            f"{parity.verdict_flips} verdicts flip",
        ),
        (
            "cost",
            f"{cost.multiply_adds / 1e6:.0f} M multiply-adds per image; flow {cost.flow_multiply_adds_unfolded / 1e6:.1f} M "
            f"unfolded, {cost.flow_multiply_adds_folded / 1e6:.1f} M folded",
        ),
        (
            "size",
            f"{folder_mb(bundle.path):.1f} MB without engines, {cost.parameters / 1e6:.1f} M parameters in the graph",
        ),
        ("engines", ", ".join(present_engines(bundle)) or "none built on this machine"),
        ("digest", bundle.digest),
    ]
    return facts


def verify_bundle(path: Path) -> str:
    """Verify a bundle and say what was verified, in a sentence or two.

    Raises:
        BundleError: If the bundle does not verify.
    """
    bundle = _verified(path)
    digests = bundle.manifest.sha256
    text = (
        f"{bundle.path}: schema {bundle.manifest.schema_version}, {len(digests)} files, every digest right, thresholds "
    )
    text += "follow from the stored scores."
    if MANIFEST not in digests:
        text += f" {MANIFEST} itself has no digest, as in older bundles; `edgead export` adds one."
    return text


def folder_mb(path: Path) -> float:
    """Size of a bundle in MB, without engines."""
    files = (file for file in path.rglob("*") if file.is_file() and ENGINES not in file.relative_to(path).parts)
    return sum(file.stat().st_size for file in files) / 1e6


def _verified(path: Path) -> Bundle:
    bundle = open_bundle(path)
    check_thresholds(bundle.manifest.thresholds, bundle.manifest.nfa, str(bundle.path / MANIFEST))
    return bundle


def _threshold_text(bundle: Bundle, name: str) -> str:
    return _promise_text(bundle.manifest.thresholds[name].threshold, "false alarms")


def _mask_rule_text(rule: MaskRule) -> str:
    return (
        f"of anomalous images, above {rule.extent:.0%} of the way to the threshold and somewhere above {rule.seed:.0%}"
        f"{f', gaps closed over {rule.closing} positions' if rule.closing > 1 else ''}"
        f"{f', of at least {rule.min_area} positions' if rule.min_area > 1 else ''}"
    )


def _nfa_text(threshold: NfaThreshold) -> str:
    record = threshold.log_epsilon
    return f"log10 number of false detections below {_promise_text(record, 'good images with any marked region')}"


def _promise_text(record: ThresholdRecord, of_what: str) -> str:
    promise = f"{record.value:.3f} for {record.false_alarm_rate:.2%} {of_what}, from {record.n_images} good images"
    rates = rate_interval(record)
    if rates is not None:
        how = "on average over trainings"
        if record.confidence is not None:
            how = f"with {record.confidence:.0%} confidence"
        return f"{promise}, certified {how} (95 % interval of the rate {rates[0]:.2%} to {rates[1]:.2%})"
    assert record.interval is not None
    low, high = record.interval
    needed = images_to_certify(record.false_alarm_rate, record.confidence)
    return f"{promise}, extrapolated (95 % interval {low:.3f} to {high:.3f}, {ASSUMPTION}; {needed} images would certify it)"
