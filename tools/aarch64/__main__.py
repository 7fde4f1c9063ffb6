"""Run the device side on emulated 64-bit Arm: `python -m tools.aarch64 [VARIANT ...]`.

Verifies a bundle, builds FP32 and INT8 engines, evaluates, runs `doctor` and streams with a clip, an MQTT broker and the
dashboard, all with the wheels that a Jetson would install, and compares scores with those of this machine. qemu executes
the same instructions as the processor, so wheels, kernels and arithmetic are real; speed, GPU, TensorRT, cameras and
JetPack's own libraries are not shown.

Needs an x86-64 Debian with apt, dpkg-deb, mosquitto and Linux >= 6.7 (binfmt_misc in user namespaces). Emulator, roots and
wheels (0.7 GB a variant) stay in `$XDG_CACHE_HOME/edgead-aarch64`, by default below ~/.cache.

Exit codes: 0 = all held, 1 = something did not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from edgead.data.reader import read_image
from edgead.imaging import bgr_from_rgb
from tools.aarch64.system import System
from tools.aarch64.variant import VARIANTS, Variant
from tools.make_tiny_bundle import make_tiny_bundle

# FP32 scores of both machines; the order of summation differs between their kernels
SCORE_TOLERANCE = 1e-5
RECIPE = "images: 8\n"
SCORES = Path(__file__).with_name("scores.py")
Scores = dict[str, tuple[float, float, bool]]


class Failed(Exception):
    """Something that did not hold."""


class Checks:
    """The checks of one emulated system.

    Args:
        system: Prepared system.
        run: Its working directory, with `bundle`, `data` and `recipe.yaml`.
        broker: Port of an MQTT broker on 127.0.0.1.
    """

    def __init__(self, system: System, run: Path, broker: int) -> None:
        self._system = system
        self._run = run
        self._broker = broker

    def all(self, *, int8: bool) -> None:
        """Run every check.

        Raises:
            Failed: If one does not hold.
        """
        self._versions()
        self._edgead("bundle", "verify", "bundle")
        self._edgead("build-engine", "bundle", "--fp32")
        engines = ["onnxruntime-fp32"]
        if int8:
            self._edgead("build-engine", "bundle", "--int8", "--recipe", "recipe.yaml")
            engines.append("onnxruntime-int8")
        host = self._host_scores()
        for engine in engines:
            self._compare(engine, host)
        self._edgead("eval", "bundle", "--data", "data", "--engine", "onnxruntime-fp32", "--json", "metrics.json")
        self._edgead("doctor", "bundle")
        self._stream()

    def _versions(self) -> None:
        machine = self._output("uname", "-m").strip()
        _hold(machine == "aarch64", f"the emulated machine is {machine}")
        code = "import sys, numpy, cv2, onnxruntime; print(sys.version.split()[0], numpy.__version__, cv2.__version__, onnxruntime.__version__)"
        python, *versions = self._output("/usr/bin/python3", "-c", code).split()
        print(f"  Python {python}; numpy, OpenCV, ONNX Runtime {', '.join(versions)}", flush=True)

    def _host_scores(self) -> Scores:
        """Scores of this machine with the bundle's graph; an engine belongs to the machine that built it."""
        subprocess.run(
            [sys.executable, str(SCORES), "bundle", "reference", "data/test", "host.json"],
            cwd=self._run, check=True, env={**os.environ, "PYTHONPATH": str(SCORES.parents[2])},
        )  # fmt: skip
        return self._read("host.json")

    def _read(self, name: str) -> Scores:
        found: Scores = json.loads((self._run / name).read_text(encoding="utf-8"))
        return found

    def _compare(self, engine: str, host: Scores) -> None:
        """Compare the scores of the emulated machine, with an engine built there, with those of this one."""
        self._output("/usr/bin/python3", f"/src/tools/aarch64/{SCORES.name}", "bundle", engine, "data/test", "arm.json")
        arm = self._read("arm.json")
        _hold(set(arm) == set(host) and len(host) > 0, "other images were scored")
        difference = max(abs(arm[name][0] - host[name][0]) / abs(host[name][0]) for name in host)
        flips = sum(arm[name][2] != host[name][2] for name in host)
        print(
            f"  {engine}: {len(host)} images, scores within {difference:.1e} of this machine's FP32, {flips} verdicts flip"
        )
        _hold(flips == 0, f"{engine}: {flips} verdicts flip")
        _hold("fp32" not in engine or difference <= SCORE_TOLERANCE, f"{engine}: scores differ by {difference:.1e}")

    def _stream(self) -> None:
        """Stream with everything on: an alert with a playable clip, its event at the broker, the dashboard's health."""
        from tests.stream.delivery.broker import Listener
        from tests.stream.delivery.receivers import free_port

        _write_video(self._run / "data" / "test", self._run / "parts.mp4")
        web = free_port()
        command = self._system.command(
            *("/usr/bin/python3", "-m", "edgead", "stream", "bundle", "--source", "parts.mp4", "--engine", "onnxruntime-fp32"),
            *("--alerts", "alerts", "--sink", f"mqtt://127.0.0.1:{self._broker}/arm", "--web", f"127.0.0.1:{web}"),
            *("--set", "alerts.open_frames=1", "--set", "alerts.close_frames=2", "--set", "clips.seconds_after=0.3"),
        )  # fmt: skip
        answered = False
        with Listener(self._broker) as listener:
            stream = subprocess.Popen(command, env=self._system.environment())
            while stream.poll() is None:
                answered = answered or _is_healthy(web)
                time.sleep(0.5)
            events = [event for event in listener.events() if event.get("kind") == "alert_opened"]
        _hold(stream.returncode == 0, f"`edgead stream` ended with {stream.returncode}")
        _hold(answered, "/healthz never answered")
        _hold(bool(events), "no event reached the broker")
        clips = sorted((self._run / "alerts").rglob("*-clip.*"))
        frames = [_frames(clip) for clip in clips]
        _hold(bool(frames) and min(frames) > 1, f"clips of {frames} frames")
        print(f"  stream: {len(events)} alerts at the broker, {len(clips)} clips of {min(frames)} frames or more")

    def _edgead(self, *words: str) -> None:
        started = time.monotonic()
        self._output("/usr/bin/python3", "-m", "edgead", *words)
        print(f"  edgead {' '.join(words)}: {time.monotonic() - started:.0f} s", flush=True)

    def _output(self, *words: str) -> str:
        done = subprocess.run(
            self._system.command(*words), env=self._system.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
        return done.stdout


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Failed(otherwise)


def _is_healthy(port: int) -> bool:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _write_video(test: Path, path: Path) -> None:
    """Write a video of good parts, then of defective ones, then of good parts again, at 10 frames a second."""
    import cv2

    good = sorted(test.glob("good/*.png"))
    defective = sorted(file for file in test.rglob("*.png") if file.parent.name != "good")
    images = [bgr_from_rgb(read_image(file)) for file in (*good, *defective, *good)]
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (width, height))  # type: ignore[attr-defined]
    for image in images:
        writer.write(image)
    writer.release()


def _frames(clip: Path) -> int:
    """Number of frames that this machine's OpenCV decodes."""
    import cv2

    capture = cv2.VideoCapture(str(clip))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if a check does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"of {', '.join(names)}; default: all")
    parser.add_argument(
        "--no-int8", action="store_true", help="leave the INT8 engine out, which takes most of the time"
    )
    parser.add_argument("--prepare", action="store_true", help="download only")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.variants) - set(names))
    if unknown:
        parser.error(f"unknown variant {unknown[0]}; known: {', '.join(names)}")
    chosen = [variant for variant in VARIANTS if variant.name in (options.variants or names)]
    return max(_run(variant, int8=not options.no_int8, only_prepare=options.prepare) for variant in chosen)


def _run(variant: Variant, *, int8: bool, only_prepare: bool) -> int:
    from tests.stream.delivery.broker import Broker

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgead-aarch64"
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        system = System(variant, cache, run)
        print(f"{variant.name}: Debian {variant.suite}, {', '.join(variant.pins) or 'newest versions'}", flush=True)
        system.prepare()
        print(f"  emulator, root and wheels: {time.monotonic() - started:.0f} s", flush=True)
        if only_prepare:
            return 0
        make_tiny_bundle(run, image_size=64)
        (run / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
        try:
            with Broker(run) as broker:
                Checks(system, run, broker.port).all(int8=int8)
        except Failed as error:
            print(f"{variant.name}: {error}", file=sys.stderr)
            return 1
    print(f"{variant.name}: the device side runs on aarch64 ({time.monotonic() - started:.0f} s).", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
