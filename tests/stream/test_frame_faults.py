"""Pictures that tell of the camera, and pictures of defective parts, which do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.imaging import Image, resize
from edgead.stream.frame_faults import (
    FrameFault,
    FrameFaultMonitor,
    FrameFaultOptions,
    FrameReference,
    frame_facts,
    grey_of,
)
from edgead.stream.sources.registry import source_from_uri
from tools.frame_faults import FAULTS, Pictures, black, blurred, exposed, real_pictures, synthetic_pictures, verdicts

from .fakes import SOURCE_OPTIONS, plain
from .servers import needs_gstreamer, rtsp_camera

DATA = Path(__file__).parents[3] / "shared" / "data"
OPTIONS = FrameFaultOptions(frozen_s=2.0, open_s=1.0, close_s=0.5)
FPS = 10.0


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Images of the synthetic disc."""
    return synthetic_pictures("disc")


@pytest.fixture
def monitor(pictures: Pictures) -> FrameFaultMonitor:
    """Monitor of a camera that films discs."""
    return FrameFaultMonitor(FrameReference.from_images(pictures.reference), OPTIONS)


def lively(image: Image, index: int) -> Image:
    """The picture with the noise of a moment."""
    noise = np.random.default_rng(index).normal(0, 1.0, image.shape)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def watch(
    monitor: FrameFaultMonitor, spoil: Callable[[Image], Image], images: list[Image], *, start: int = 0
) -> list[FrameFault | None]:
    """Faults that the monitor reports for spoilt images at `FPS`, numbered from `start`."""
    return [monitor.observe(spoil(lively(image, start + i)), (start + i) / FPS) for i, image in enumerate(images)]


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (black, "black"),
        (lambda image: exposed(image, 8), "over-exposed"),
        (lambda image: blurred(image, 4), "blurred"),
        (lambda image: np.zeros_like(image), "black"),
        (lambda image: np.full_like(image, 255), "over-exposed"),
        (lambda image: np.full_like(image, 120), "blurred"),
    ],
)
def test_a_fault_opens_when_it_lasts_and_closes_when_it_is_over(
    monitor: FrameFaultMonitor, pictures: Pictures, spoil: Callable[[Image], Image], kind: str
) -> None:
    """Each kind counts after `open_s`, says since when, what and how much, and ends after `close_s` of good pictures."""
    good = [pictures.good[0]] * 15
    assert watch(monitor, lambda image: image, good) == [None] * 15
    found = watch(monitor, spoil, good, start=15)
    assert found[:10] == [None] * 10
    assert all(fault is not None and fault.kind == kind for fault in found[10:])
    fault = monitor.fault
    assert fault is not None
    assert fault.since_s == 1.5
    assert kind.replace("-", "") in fault.message.replace("-", "")
    ending = watch(monitor, lambda image: image, good, start=30)
    assert [one is not None for one in ending] == [True] * 5 + [False] * 10


def test_a_moment_is_no_fault(monitor: FrameFaultMonitor, pictures: Pictures) -> None:
    """A flash or a hand before the lens, for less than `open_s`, is none, however often it comes."""
    for number in range(8):
        spoil = FAULTS["8 x the light"] if number % 2 else FAULTS["black"]
        assert watch(monitor, spoil, [pictures.good[0]] * 8, start=number * 10) == [None] * 8
        assert watch(monitor, lambda image: image, [pictures.good[0]] * 2, start=number * 10 + 8) == [None] * 2


def test_a_slow_camera_needs_three_pictures(monitor: FrameFaultMonitor, pictures: Pictures) -> None:
    """However long apart pictures come, one or two bad ones are no fault."""
    found = [monitor.observe(black(pictures.good[0]), 100.0 * i) for i in range(4)]
    assert [fault is not None for fault in found] == [False, False, True, True]


def test_one_fault_follows_another(monitor: FrameFaultMonitor, pictures: Pictures) -> None:
    """A camera that goes from blurred to black is black, without a good moment between."""
    watch(monitor, FAULTS["blurred, sigma 8 px"], [pictures.good[0]] * 15)
    found = watch(monitor, black, [pictures.good[0]] * 15, start=15)
    kinds = [fault.kind for fault in found if fault is not None]
    assert len(kinds) == 15
    assert (kinds[0], kinds[-1]) == ("blurred", "black")


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_frozen_is_what_repeats_and_not_what_stands_still(
    monitor: FrameFaultMonitor, pictures: Pictures, noise: float
) -> None:
    """The same picture for `frozen_s` is frozen at once; a still part before a sensor with noise never is."""
    image = pictures.good[0]
    found = [monitor.observe(lively(image, i) if noise else image, i / FPS) for i in range(60)]
    if noise:
        assert found == [None] * 60
        return
    assert found[:20] == [None] * 20
    assert all(fault is not None and fault.kind == "frozen" for fault in found[21:])
    fault = found[-1]
    assert fault is not None
    assert 0.0 <= fault.since_s <= 0.1
    after = watch(monitor, lambda picture: picture, [image] * 15, start=60)
    assert after[-1] is None


def test_a_line_without_noise_that_moves_now_and_then_is_not_frozen(
    monitor: FrameFaultMonitor, pictures: Pictures
) -> None:
    """Pictures that are the same for 1.5 s and then another part are a line that works in steps."""
    found = [monitor.observe(pictures.good[(i // 15) % 2], i / FPS) for i in range(150)]
    assert found == [None] * 150


def test_something_small_that_moves_is_enough(monitor: FrameFaultMonitor, pictures: Pictures) -> None:
    """A screw that crosses a noiseless picture tells that the camera lives."""
    image = pictures.good[0]

    def moved(i: int) -> Image:
        picture = image.copy()
        picture[100:104, (i * 3) % 250 : (i * 3) % 250 + 4] = 255
        return picture

    assert [monitor.observe(moved(i), i / FPS) for i in range(60)] == [None] * 60


def test_files_are_never_frozen(pictures: Pictures) -> None:
    """With `frozen_s` 0 the same image may repeat without end."""
    monitor = FrameFaultMonitor(FrameReference.from_images(pictures.reference), replace(OPTIONS, frozen_s=0))
    assert [monitor.observe(pictures.good[0], float(i)) for i in range(100)] == [None] * 100


@pytest.mark.parametrize("part", ["disc", "cap"])
def test_defects_are_no_faults_of_the_camera(part: str) -> None:
    """No good and no defective synthetic part is called a fault, and the faults of a camera are."""
    product = synthetic_pictures(part)
    for images in (product.good, product.defective):
        assert set(verdicts(product, images)) == {"good"}
    for fault, kind in (
        ("black", "black"), ("a 20th of the light", "black"), ("8 x the light", "over-exposed"),
        ("blurred, sigma 3 px", "blurred"),
    ):  # fmt: skip
        assert set(verdicts(product, [FAULTS[fault](image) for image in product.good])) == {kind}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["magnetic_tile", "pcb", "solar_cell_mono"])
def test_real_defects_are_no_faults_of_the_camera(name: str) -> None:
    """No real test image is called a fault, and real images made black, bright or blurred are.

    Binarised circuit boards are white by nature and of every sharpness: of them only black is asked.
    """
    if not (DATA / name).is_dir():
        pytest.skip(f"the data set {name} is not here")
    product = real_pictures(DATA / name)
    assert len(product.good) + len(product.defective) > 100
    for images in (product.good, product.defective):
        assert set(verdicts(product, images)) == {"good"}
    assert set(verdicts(product, [black(image) for image in product.good])) == {"black"}
    if name == "pcb":
        return
    bright = verdicts(product, [exposed(image, 8) for image in product.good])
    assert bright["over-exposed"] == len(product.good)
    soft = verdicts(product, [blurred(image, 8) for image in product.good])
    assert soft["blurred"] == len(product.good)


@pytest.mark.slow
@needs_gstreamer
def test_a_real_stream_shows_its_faults() -> None:
    """Over H.264 and RTSP: a moving line and a still part are good; frozen, black, white and blurred are found."""
    expected = {
        "thaw": "good", "still": "good", "freeze": "frozen", "black": "black", "over": "over-exposed", "blur": "blurred",
    }  # fmt: skip
    seen: dict[str, str] = {}
    with rtsp_camera("--frames", "100", "--bitrate", "4000") as camera:
        with source_from_uri(camera.url, SOURCE_OPTIONS) as source:
            stop = threading.Event()
            frames = source.frames(stop)
            reference = [resize(next(frames).image, (256, 256)) for _ in range(80)]
            for view, kind in expected.items():
                camera.command(view)
                monitor = FrameFaultMonitor(FrameReference.from_images(reference), replace(OPTIONS, frozen_s=3.0))
                end_s = time.monotonic() + (5 if kind == "good" else 60)
                for frame in frames:
                    fault = monitor.observe(resize(frame.image, (256, 256)), frame.captured_at_s)
                    seen[view] = "good" if fault is None else fault.kind
                    if time.monotonic() > end_s or (fault is not None and fault.kind == kind):
                        break
    assert seen == expected


def test_the_light_does_not_change_the_sharpness(pictures: Pictures) -> None:
    """Half the light, same sharpness within a tenth."""
    full = frame_facts(grey_of(pictures.good[0])).sharpness
    half = frame_facts(grey_of(exposed(pictures.good[0], 0.5))).sharpness
    assert half == pytest.approx(full, rel=0.1)


@pytest.mark.parametrize("size", [(16, 16), (300, 20), (256, 256), (448, 448)])
def test_any_size_is_looked_at(size: tuple[int, int]) -> None:
    """Small, long and large pictures are measured."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*size, 3)).astype(np.uint8)
    facts = frame_facts(grey_of(image))
    assert facts.sharpness > 0
    assert max(grey_of(image).shape) <= 256


def test_a_picture_takes_less_than_a_millisecond(pictures: Pictures) -> None:
    """The median of many pictures of model size stays far below the time of a frame."""
    monitor = FrameFaultMonitor(FrameReference.from_images(pictures.reference), FrameFaultOptions())
    times = []
    for i in range(200):
        image = pictures.good[i % len(pictures.good)]
        start = time.perf_counter()
        monitor.observe(image, i / 25)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 2e-3


def test_a_reference_needs_an_image() -> None:
    """Without a good image nothing is normal."""
    with pytest.raises(ValueError, match="at least one"):
        FrameReference.from_images([])


@given(
    st.lists(st.tuples(st.integers(0, 255), st.floats(0, 3)), max_size=60),
    st.builds(
        FrameFaultOptions, frozen_s=st.sampled_from([0.0, 1.0, 5.0]), open_s=st.floats(0, 2), close_s=st.floats(0, 2)
    ),
)
def test_faults_follow_each_other_in_time(steps: list[tuple[int, float]], options: FrameFaultOptions) -> None:
    """Whatever is seen when: a fault began before it counts, and the same one keeps its beginning."""
    monitor = FrameFaultMonitor(FrameReference(100.0, 0.1, 0.0), options)
    now_s, last = 0.0, None
    for value, wait_s in steps:
        now_s += wait_s
        fault = monitor.observe(plain(value), now_s)
        assert fault is None or fault.since_s <= now_s
        if fault is not None and last is not None and fault.kind == last.kind:
            assert fault.since_s == last.since_s
        last = fault
