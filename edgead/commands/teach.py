"""`edgead teach`: from ten good parts in front of a camera to a bundle, on the device."""

from __future__ import annotations

import datetime
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import Bundle
from edgead.commands.stream import stop_on_signals
from edgead.commands.taught_bundle import Reference, reference_of, taught_thresholds, write_taught_bundle
from edgead.commands.training.runs import RUNS, mark_latest, new_run
from edgead.config.root import Config
from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.dataset import Sample, evenly_spaced
from edgead.data.reader import read_image
from edgead.data.scan import scan_images
from edgead.errors import ConfigError, DataError
from edgead.imaging import Image, Reading, png_from_rgb
from edgead.line.cameras import source_options
from edgead.manifest import MIN_IMAGES, Preprocessing
from edgead.progress import Progress
from edgead.storage import exclusive_folder, remove_temporaries, require_free_space
from edgead.stream.sources.folder import FolderSource
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.source import Source
from edgead.stream.sources.watched_folder import WatchedFolder
from edgead.teach.base import Base, open_base
from edgead.teach.run import PICTURES, TaughtRun, digest_of, now
from edgead.teach.teacher import MOST_PICTURES, Taught, Teacher
from edgead.teach.verdict import Verdict, judge_taught

DEFAULT_COUNT = 10
_SPARE = 16e6


@dataclass(frozen=True)
class TeachOptions:
    """Pictures, count and limits of a teaching.

    Attributes:
        base: Base bundle; None = that of the teaching that is refined.
        out: Folder of the teaching; None = a new one in `runs`. An existing one is refined.
        data: Folder of good pictures.
        source: Address of a camera, video or folder, instead of `data`.
        count: Number of new pictures to accept; None = 10 of a source, all of a folder.
        every_s: Shortest time between two accepted frames of a camera, in seconds.
        drop: Pictures of earlier teachings to leave out, by file name.
    """

    base: Path | None
    out: Path | None
    data: Path | None = None
    source: str | None = None
    count: int | None = None
    every_s: float = 1.0
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class TeachResult:
    """Result: folder of the teaching, bundle of the new version, and the verdict."""

    run: Path
    bundle: Bundle
    version: int
    verdict: Verdict


def teach(
    options: TeachOptions, config: Config, progress: Progress, *, source: Source | None = None, runs: Path = RUNS
) -> TeachResult:
    """Teach a model and write a bundle; no picture that was accepted is lost if a later step fails.

    Args:
        options: What to teach with.
        config: Settings of the source and the number of threads.
        progress: Receives notes and progress.
        source: Frames in place of those of `options.source`.
        runs: Parent folder of new teachings.

    Raises:
        BundleError: If the base bundle is damaged, missing, or another than that of the earlier versions.
        DataError: If fewer than 5 pictures were accepted.
        SourceError: If the camera gives no frames.
        StorageError: If the disk is full, or another process teaches in the folder; earlier versions are unchanged.
    """
    earlier = None if options.out is None else TaughtRun.open(options.out)
    base = open_base(_base_path(options, earlier))
    if earlier is not None:
        earlier.check_base(base)
    _note_clock(base, progress)
    if options.drop and earlier is None:
        raise ConfigError(
            "--drop leaves out pictures of a teaching, and this is a new one.", hint="Name the teaching: --refine DIR"
        )
    samples = _samples(options, progress)
    if options.data is None and options.source is not None and source is None:
        source = source_from_uri(options.source, source_options(config.stream, _reading(base, earlier), give_up=True))
    is_new = options.out is None or not options.out.exists()
    out = options.out or new_run(runs, "taught")
    with (
        exclusive_folder(
            out, f"teaches in {out}", hint="Wait until it has finished, or name another folder: --out DIR"
        ),
        _removed_if_empty(out, is_new),
    ):
        require_free_space(out, bytes_needed(base), purpose="A taught bundle")
        run = TaughtRun.open(out) or TaughtRun.begin(out, base, *_white_levels(samples))
        for folder in (out, out / PICTURES):
            if folder.is_dir():
                remove_temporaries(folder)
        if options.drop:
            run.drop(options.drop)
        taught, reference, origin = _taught(options, config, run, base, samples, source, progress)
        number = run.next_number
        bundle = write_taught_bundle(run, base, taught, reference, origin=origin, progress=progress)
        run.finish(number, bundle.digest)
        mark_latest(out)
    learnt = taught.learnt
    files = [picture.file for picture in run.record.pictures]
    verdict = judge_taught(learnt.scores, learnt.pseudo_scores, taught_thresholds(taught).threshold.value, files)
    return TeachResult(out, bundle, number, verdict)


def _taught(
    options: TeachOptions,
    config: Config,
    run: TaughtRun,
    base: Base,
    samples: Sequence[Sample],
    source: Source | None,
    progress: Progress,
) -> tuple[Taught, Reference, str]:
    """Show the pictures of earlier versions and the new ones, and fit; the backbone leaves the memory with the teacher."""
    before = len(run.record.pictures)
    wanted = options.count or (len(samples) if options.data is not None else DEFAULT_COUNT)
    is_live = options.data is None and (source is not None or options.source is not None)
    if not samples and not is_live:
        wanted = 0
    count = min(before + wanted, MOST_PICTURES)
    record = run.record
    reading = Preprocessing.current(base.image_size, record.white_level, record.float_white_level).reading
    # every image of a folder is another part, and none of them is in motion
    needs_rest = is_live and not isinstance(source, (FolderSource, WatchedFolder))
    teacher = Teacher(base, needs_rest=needs_rest, count=max(count, MIN_IMAGES), threads=config.engine.threads)
    for done, picture in enumerate(record.pictures, start=1):
        teacher.restore(run.read(picture, reading), picture.file)
        progress.update("Earlier pictures", done, before)
    if before:
        progress.note(f"{before} pictures of earlier versions are taught again.")
    show = _Showing(teacher, run, before, count, progress)
    if is_live and source is not None:
        origin = _show_source(show, source, options.every_s)
    else:
        origin = str(options.data) if samples else str(run.path)
        _show_files(show, samples, reading)
    show.end()
    taught = teacher.fit(progress.update)
    chosen = taught.learnt.chosen
    progress.note(f"Chosen by left-out pictures and pseudo-defects: {chosen.describe()}")
    return taught, reference_of(base, taught, teacher.exact), origin


def _reading(base: Base, earlier: TaughtRun | None) -> Reading:
    """Reading of the images of a source; those of a new teaching have 8 bits."""
    levels = (255, None) if earlier is None else (earlier.record.white_level, earlier.record.float_white_level)
    return Preprocessing.current(base.image_size, *levels).reading


@contextmanager
def _removed_if_empty(folder: Path, is_new: bool) -> Iterator[None]:
    """Remove a new folder again if the teaching fails before a picture was accepted."""
    try:
        yield
    except BaseException:
        if is_new and not (folder / PICTURES).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


class _Showing:
    """New pictures, counted and stored as they are accepted."""

    def __init__(self, teacher: Teacher, run: TaughtRun, before: int, count: int, progress: Progress) -> None:
        self.teacher = teacher
        self._run = run
        self._before = before
        self._count = count
        self._progress = progress
        self._last = ""

    @property
    def is_complete(self) -> bool:
        return self.teacher.n_accepted >= self._count

    @property
    def known(self) -> frozenset[str]:
        """Digests of the pictures that are taught."""
        return self._run.digests

    @property
    def dropped(self) -> frozenset[str]:
        """Digests of the pictures that were left out with `--drop`."""
        return self._run.dropped

    def show(self, image: Image, name: str, content: bytes | None = None, suffix: str = ".png") -> bool:
        """Show a picture, store it if it is accepted, and say what happened; whether it was accepted.

        Args:
            image: Picture `(H, W, 3)`, uint8 RGB.
            name: Name for messages and records.
            content: Its file; None = it has none, and is stored without loss.
            suffix: Suffix of the file.
        """
        shown = self.teacher.add(image, name)
        if shown.is_accepted:
            self._run.keep(png_from_rgb(image) if content is None else content, suffix, name)
        self._tell("" if shown.refused is None else shown.refused.reason)
        return shown.is_accepted

    def leave_out(self, kind: str, reason: str) -> None:
        """Count a picture that is not shown at all."""
        self.teacher.left_out[kind] += 1
        self._tell(reason)

    def end(self) -> None:
        """Say how many pictures were accepted and left out."""
        left_out = ", ".join(f"{number} {kind}" for kind, number in sorted(self.teacher.left_out.items()))
        new = self.teacher.n_accepted - self._before
        self._progress.note(f"{new} new pictures were accepted; left out: {left_out or 'none'}.")

    def _tell(self, reason: str) -> None:
        done, total = self.teacher.n_accepted - self._before, self._count - self._before
        if reason and reason != self._last:
            self._progress.note(reason)
        self._last = reason
        self._progress.update("Good parts", done, total)


def _show_files(show: _Showing, samples: Sequence[Sample], reading: Reading) -> None:
    for sample in samples:
        if show.is_complete:
            return
        try:
            content = sample.path.read_bytes()
        except OSError as error:
            show.leave_out("unreadable", f"{sample.path} cannot be read: {error.strerror or error}.")
            continue
        digest = digest_of(content)
        if digest in show.known:
            show.leave_out("taught before", f"{sample.name} is taught already.")
            continue
        if digest in show.dropped:
            show.leave_out("dropped before", f"{sample.name} was left out with --drop.")
            continue
        try:
            image = read_image(sample.path, **reading)
        except DataError as error:
            show.leave_out("unreadable", error.message)
            continue
        show.show(image, sample.name, content, sample.path.suffix)


def _show_source(show: _Showing, source: Source, every_s: float) -> str:
    """Show frames until enough are accepted, the source ends, or the user stops; the redacted name of the source."""
    stop = threading.Event()
    last_s: float | None = None
    with stop_on_signals(stop), source:
        for frame in source.frames(stop):
            if frame.damage:
                show.leave_out("damaged", frame.damage)
                continue
            is_soon = last_s is not None and source.paced and frame.captured_at_s - last_s < every_s
            if is_soon:
                show.teacher.watch(frame.image)
            elif show.show(frame.image, f"{frame.source} {frame.index}"):
                last_s = frame.captured_at_s
            if show.is_complete:
                break
    return source.name


def _base_path(options: TeachOptions, earlier: TaughtRun | None) -> Path:
    if options.base is not None:
        return options.base
    if earlier is None:
        raise ConfigError(
            "A new teaching needs a base bundle.",
            hint="Name its folder: --base DIR. On a workstation `edgead export --base DIR` makes one, once for all parts.",
        )
    return Path(earlier.record.base)


def _samples(options: TeachOptions, progress: Progress) -> tuple[Sample, ...]:
    """Good pictures of a folder, spread over it if only some are wanted."""
    if options.data is None:
        return ()
    samples = choose_dataset(options.data, FolderRoles()).train
    limit = min(options.count or MOST_PICTURES, MOST_PICTURES)
    if options.count is None and len(samples) > limit:
        progress.note(f"{limit} of {len(samples)} pictures are taught; a workstation learns from all: edgead train.")
    # the chosen ones first, and then the others, for pictures that are left out
    chosen = evenly_spaced(samples, limit)
    names = {sample.path for sample in chosen}
    return (*chosen, *(sample for sample in samples if sample.path not in names)) if options.count else tuple(chosen)


def _white_levels(samples: Sequence[Sample]) -> tuple[float, float | None]:
    """White levels of pictures with more than 8 bits; those of a camera have 8."""
    if not samples:
        return 255, None
    scan = scan_images(samples[:MOST_PICTURES], min_good=1)
    return scan.white_level, scan.float_white_level


def _note_clock(base: Base, progress: Progress) -> None:
    """Warn of a clock that is wrong: the times of records would be too."""
    made = datetime.datetime.fromisoformat(base.manifest.created_at)
    if now() < made - datetime.timedelta(days=1):
        progress.note(
            f"Warning: this machine's clock says {now():%Y-%m-%d %H:%M}, but the base bundle was made {made:%Y-%m-%d %H:%M}. Times "
            "in records will be wrong; set the clock. Nothing else depends on it."
        )


def bytes_needed(base: Base) -> int:
    """Space for one more version, with its temporary copy."""
    levels = base.manifest.levels
    own = max(
        sum(8.0 * level.size[0] * level.size[1] * level.channels**2 for level in levels) if form == "positions" else 8e6
        for form in base.manifest.forms
    )
    files = sum((base.path / name).stat().st_size for name in base.manifest.sha256)
    return int(2 * (own + files) + _SPARE)
