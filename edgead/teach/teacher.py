"""Teaching picture by picture: what a command, or a page that shows the live picture, drives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgead.config.root import Config
from edgead.data.pseudo_defects import make_pseudo_defect
from edgead.errors import DataError
from edgead.imaging import Image, resize
from edgead.manifest import MIN_IMAGES
from edgead.teach.acceptance import Acceptance, Refused
from edgead.teach.base import Base
from edgead.teach.features import FeatureNet, Features
from edgead.teach.form import Doubles, Floats
from edgead.teach.learning import FitSettings, Learnt, learn, left_out_scores

# The features of more pictures would not fit into the memory of a small device; a workstation takes any number.
MOST_PICTURES = 200
PSEUDO_DEFECTS = 48
MOST_COPIES = 4


@dataclass(frozen=True)
class Shown:
    """What happened to a picture.

    Attributes:
        is_accepted: Whether it is taught.
        n_accepted: Number of pictures taught so far.
        refused: Why it is left out; None if it is taught.
    """

    is_accepted: bool
    n_accepted: int
    refused: Refused | None = None


@dataclass(frozen=True)
class Taught:
    """Fitted model, with the pictures it was taught.

    Attributes:
        learnt: The model.
        images: The pictures `(n, h, w, 3)`, uint8 RGB, at input size, in the order they were accepted.
        names: Their names.
        left_out: Number of pictures left out, by reason.
    """

    learnt: Learnt
    images: Sequence[Image]
    names: Sequence[str]
    left_out: dict[str, int]


class Teacher:
    """Takes pictures one by one, and fits a model to those that it accepted.

    Args:
        base: Base bundle.
        needs_rest: Whether a picture must show a part at rest, as the frames of a camera do between two movements.
        count: Number of pictures after which no more are taken, at most `MOST_PICTURES`.
        threads: Number of CPU threads; 0 = one per core this process may use.

    Raises:
        DataError: If the count is out of range.
        EngineError: If ONNX Runtime refuses the backbone.
    """

    def __init__(self, base: Base, *, needs_rest: bool = False, count: int = MOST_PICTURES, threads: int = 0) -> None:
        if not MIN_IMAGES <= count <= MOST_PICTURES:
            raise DataError(
                f"Teaching takes {MIN_IMAGES} to {MOST_PICTURES} pictures, got {count}.",
                hint="A threshold needs 5 pictures; with more than 200, train on a workstation: edgead train.",
            )
        self.base = base
        self.count = count
        self.left_out: Counter[str] = Counter()
        self._net = FeatureNet(base, threads)
        self._acceptance = Acceptance(needs_rest=needs_rest)
        self._images: list[Image] = []
        self._names: list[str] = []
        self._features: list[Features] = []

    @property
    def n_accepted(self) -> int:
        """Number of pictures taught so far."""
        return len(self._images)

    @property
    def is_complete(self) -> bool:
        """Whether as many pictures as wanted were accepted."""
        return self.n_accepted >= self.count

    def add(self, image: Image, name: str) -> Shown:
        """Show the next picture.

        Args:
            image: Picture `(H, W, 3)`, uint8 RGB, of any size.
            name: Name for messages.

        Returns:
            Whether it is taught, and why not.
        """
        small = self.fitted(image)
        refused = Refused("enough", f"{self.count} pictures were accepted.") if self.is_complete else None
        refused = refused or self._acceptance.judge(small)
        if refused is not None:
            self.left_out[refused.kind] += 1
            return Shown(False, self.n_accepted, refused)
        self.restore(image, name)
        return Shown(True, self.n_accepted)

    def watch(self, image: Image) -> None:
        """Look at a frame that is not to be taught, so that the next one can be told from it; see `needs_rest`."""
        self._acceptance.watch(self.fitted(image))

    def restore(self, image: Image, name: str) -> None:
        """Take a picture `(H, W, 3)` that an earlier teaching accepted, without judging it again."""
        small = self.fitted(image)
        self._acceptance.add(small)
        self._images.append(small)
        self._names.append(name)
        self._features.append(self._net(small))

    def fitted(self, image: Image) -> Image:
        """A picture at input size."""
        return resize(image, self.base.image_size, self.base.manifest.preprocessing.resize)

    @property
    def exact(self) -> Callable[[Image], Sequence[Floats]]:
        """Function from a picture at input size to its features in float32."""
        return self._net.exact

    def remove(self, index: int) -> Image:
        """Take back a picture by its place among the taught ones, from 0, and give it at input size."""
        self._acceptance.remove(index)
        del self._names[index], self._features[index]
        return self._images.pop(index)

    def refuse_like(self, image: Image) -> None:
        """Leave out pictures `(H, W, 3)` like this one from now on."""
        self._acceptance.refuse_like(self.fitted(image))

    def left_out_scorer(self) -> Callable[[Callable[[int, int], None]], Doubles]:
        """Function that gives the score of each picture taught so far under a model without it, `(n,)`, to be drawn as they come.

        It may run on another thread, while more pictures are added. Its argument is called with the number of models fitted
        and their total. Empty below 5 pictures. The form is chosen at the end, with pseudo-defects; until then it is the first
        that is tried.
        """
        features, settings = tuple(self._features), fit_settings(self.base)
        if len(features) < MIN_IMAGES:
            return lambda on_step: np.zeros(0)
        return lambda on_step: left_out_scores(self.base, features, settings, on_step)

    def fit(self, on_step: Callable[[str, int, int], None] = lambda task, done, total: None) -> Taught:
        """Fit the model to the accepted pictures.

        Args:
            on_step: Called with the name of a stage, the number of steps done and their total.

        Raises:
            DataError: If there are fewer than 5 pictures.
            TrainingError: If the pictures do not vary.
        """
        n = self.n_accepted
        if n < MIN_IMAGES:
            reasons = ", ".join(f"{number} {kind}" for kind, number in sorted(self.left_out.items()))
            raise DataError(
                f"{n} good pictures were accepted; a threshold needs {MIN_IMAGES}, and 10 are a good start."
                + (f" Left out: {reasons}." if reasons else ""),
                hint="Show more good parts, each of them another one.",
            )
        settings = fit_settings(self.base)
        copies = min(MOST_COPIES, max(1, -(-PSEUDO_DEFECTS // n)))
        origin = [index % n for index in range(min(copies * n, max(PSEUDO_DEFECTS, n)))]

        def pseudo() -> Iterator[Features]:
            for number, own in enumerate(origin):
                random = np.random.default_rng((settings.seed, own, number))
                changed, _ = make_pseudo_defect(self._images[own], self._images[(own + 1) % n], random)
                yield self._net(changed)
                on_step("Pseudo-defects", number + 1, len(origin))

        learnt = learn(
            self.base, self._features, pseudo(), origin, settings, lambda done, total: on_step("Forms", done, total)
        )
        return Taught(learnt, tuple(self._images), tuple(self._names), dict(self.left_out))


def fit_settings(base: Base) -> FitSettings:
    """Settings of the closed form that a base bundle states."""
    config = Config.model_validate(base.manifest.config)
    train = config.train
    return FitSettings(
        ridge=train.ridge,
        centre_ridge=train.centre_ridge,
        centres=config.model.centres or train.centres,
        shrinkage=train.shrinkage,
        top_fractions=train.top_fractions or (config.model.top_fraction,),
        seed=train.seed,
    )
