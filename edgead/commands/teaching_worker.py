"""Process that teaches beside a stream: it takes frames, keeps the good ones on disk, and fits a model to them in the end.

Protocol, on the connection whose number is the first argument: an answer to each request of `edgead.stream.teaching`, which is
`("ok", TeachingReport)` or `("error", (message, hint))`, after any number of `("step", (stage, steps done, total))`. After an error
the process ends, and with the connection.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from edgead.commands.taught_bundle import reference_of, taught_thresholds, write_taught_bundle
from edgead.commands.teach import bytes_needed
from edgead.data.reader import read_image
from edgead.errors import EdgeadError
from edgead.evaluation.threshold import smallest_rate
from edgead.imaging import png_from_rgb
from edgead.manifest import MIN_IMAGES, Preprocessing
from edgead.storage import exclusive_folder, remove_temporaries, require_free_space
from edgead.stream.teaching import Drop, Finish, LeaveOut, OnStep, Request, Show, TaughtVerdict, TeachingReport
from edgead.teach.base import open_base
from edgead.teach.form import Doubles
from edgead.teach.run import PICTURES, TaughtRun
from edgead.teach.teacher import Teacher
from edgead.teach.verdict import judge_taught, next_promise

# Room for what else the device writes.
_LEAST_FREE = 100e6
# The stream keeps the other cores.
_THREADS = 1


@dataclass(frozen=True)
class WorkerOptions:
    """Options of a process that teaches.

    Attributes:
        base: Base bundle.
        folder: Folder of the teaching; an existing one is continued.
        needs_rest: Whether a frame must show a part at rest.
        every_s: Shortest time between two accepted frames, in seconds.
    """

    base: Path
    folder: Path
    needs_rest: bool
    every_s: float


class _Stopped(Exception):
    """The scores are not wanted any more."""


class LeftOutScores:
    """Left-out scores of the pictures so far, computed on a thread of their own while more are shown."""

    def __init__(self) -> None:
        self.found: tuple[tuple[str, float], ...] = ()
        self.n_folds = (0, 0)
        self._files: tuple[str, ...] = ()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, files: tuple[str, ...], scorer: Callable[[Callable[[int, int], None]], Doubles]) -> None:
        """Compute the scores of these pictures unless they are there, or others are being computed."""
        if self._thread is not None and self._thread.is_alive():
            return
        if files != self._files and len(files) >= MIN_IMAGES:
            self._files = files
            self._thread = threading.Thread(
                target=self._compute, args=(files, scorer), name="left-out scores", daemon=True
            )
            self._thread.start()

    def end(self) -> None:
        """Stop computing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _compute(self, files: tuple[str, ...], scorer: Callable[[Callable[[int, int], None]], Doubles]) -> None:
        def step(done: int, total: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            self.n_folds = (done, total)

        try:
            scores = scorer(step)
        except (_Stopped, EdgeadError):  # the fit at the end says what is wrong with the pictures
            return
        finally:
            self.n_folds = (0, 0)
        self.found = tuple((file, float(score)) for file, score in zip(files, scores, strict=True))


class Worker:
    """Answers requests about one teaching; a context manager that holds the lock of its folder.

    Args:
        options: What to teach with.
        on_step: Hears of a stage, the steps done and their total.

    Raises:
        EdgeadError: If the base bundle is damaged or another one, a picture is missing, or the disk is full.
    """

    def __init__(self, options: WorkerOptions, on_step: OnStep) -> None:
        self._options, self._on_step = options, on_step
        self._base = open_base(options.base)
        self._scores = LeftOutScores()
        self._accepted_s: float | None = None
        self._n_looked, self._last = 0, ""
        self._stack = ExitStack()

    def __enter__(self) -> Worker:
        out, base = self._options.folder, self._base
        with ExitStack() as stack:
            stack.enter_context(
                exclusive_folder(out, f"teaches in {out}", hint="Wait until it has finished, or begin a new teaching.")
            )
            require_free_space(out, bytes_needed(base), purpose="A taught bundle")
            run = TaughtRun.open(out)
            if run is not None:
                run.check_base(base)
            self._run = run = run or TaughtRun.begin(out, base, 255, None)
            for folder in (out, out / PICTURES):
                if folder.is_dir():
                    remove_temporaries(folder)
            self._teacher = Teacher(base, needs_rest=self._options.needs_rest, threads=_THREADS)
            record = run.record
            reading = Preprocessing.current(base.image_size, record.white_level, record.float_white_level).reading
            for done, picture in enumerate(record.pictures, start=1):
                self._teacher.restore(run.read(picture, reading), picture.file)
                self._on_step("Earlier pictures", done, len(record.pictures))
            for path in sorted((out / PICTURES).glob("*.png")):
                if path.name not in self._files:  # left out by hand before
                    self._teacher.refuse_like(read_image(path, **reading))
            stack.callback(self._scores.end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def answer(self, request: Request) -> TeachingReport:
        """Do what is asked.

        Raises:
            EdgeadError: If it fails; pictures and versions of before are unchanged.
        """
        verdict = None
        match request:
            case Show():
                self._show(request)
            case LeaveOut(kind, reason):
                self._n_looked += 1
                self._teacher.left_out[kind] += 1
                self._last = reason
            case Drop(file):
                files = self._files
                self._run.drop((file,))
                self._teacher.refuse_like(self._teacher.remove(files.index(file)))
                self._last = f"{file} is left out."
            case Finish():
                verdict = self._finish()
        files, n = self._files, self._teacher.n_accepted
        if verdict is None:
            self._scores.follow(files, self._teacher.left_out_scorer())
        return TeachingReport(
            files, self._n_looked, dict(self._teacher.left_out), self._last,
            tuple((file, score) for file, score in self._scores.found if file in files), self._scores.n_folds,
            smallest_rate(n) if n >= MIN_IMAGES else None,
            next_promise(n) if n >= MIN_IMAGES else (MIN_IMAGES, smallest_rate(MIN_IMAGES)), verdict,
        )  # fmt: skip

    @property
    def _files(self) -> tuple[str, ...]:
        return tuple(picture.file for picture in self._run.record.pictures)

    def _show(self, frame: Show) -> None:
        last_s = self._accepted_s
        if last_s is not None and 0 <= frame.at_s - last_s < self._options.every_s:
            self._teacher.watch(frame.image)
            return
        self._n_looked += 1
        shown = self._teacher.add(frame.image, frame.source)
        if shown.refused is not None:
            self._last = shown.refused.reason
            return
        # what counts is the record on disk; an error here ends the process, and with it what the teacher has of the picture
        content = png_from_rgb(frame.image)
        require_free_space(self._run.path, int(_LEAST_FREE) + len(content), purpose="Keeping a picture")
        self._run.keep(content, ".png", frame.source)
        self._accepted_s = frame.at_s
        self._last = f"Accepted as number {shown.n_accepted}."

    def _finish(self) -> TaughtVerdict:
        self._scores.end()
        run, base, files = self._run, self._base, self._files
        taught = self._teacher.fit(self._on_step)
        reference = reference_of(base, taught, self._teacher.exact)
        number = run.next_number
        origin = run.record.pictures[-1].source.rpartition(" ")[0]
        bundle = write_taught_bundle(run, base, taught, reference, origin=origin, progress=_Steps(self._on_step))
        run.finish(number, bundle.digest)
        learnt, threshold = taught.learnt, taught_thresholds(taught).threshold.value
        verdict = judge_taught(learnt.scores, learnt.pseudo_scores, threshold, files)
        scores = tuple((file, float(score)) for file, score in zip(files, learnt.scores, strict=True))
        return TaughtVerdict(number, len(files), verdict.rate, threshold, scores, tuple(verdict.sentences()))


class _Steps:
    """Progress as steps; notes are for people at a terminal."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def note(self, text: str) -> None:
        """Say nothing."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        self._on_step(task, done, total)


def serve(connection: Connection, options: WorkerOptions) -> None:
    """Answer until the other end is closed, or something fails."""

    def step(task: str, done: int, total: int) -> None:
        connection.send(("step", (task, done, total)))

    try:
        request: Request = connection.recv()
        with Worker(options, step) as worker:
            while True:
                connection.send(("ok", worker.answer(request)))
                request = connection.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except EdgeadError as error:
        connection.send(("error", (error.message, error.hint)))
    except Exception as error:
        connection.send(("error", (f"{type(error).__name__}: {error}", "Please report this as a bug.")))


def main() -> None:
    """Serve the parent that started this process."""
    number, base, folder, needs_rest, every_s, nice = sys.argv[1:]
    os.setpriority(os.PRIO_PROCESS, 0, max(int(nice), os.getpriority(os.PRIO_PROCESS, 0)))
    try:
        serve(Connection(int(number)), WorkerOptions(Path(base), Path(folder), needs_rest == "1", float(every_s)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has closed its end, or was killed


if __name__ == "__main__":
    main()
