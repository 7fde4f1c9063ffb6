"""Inputs of a trial of closed forms: good images, copies of them, and their features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgead.commands.training.data import DRAWING, TrainingData
from edgead.commands.training.needs import feature_folder, memory_limit
from edgead.commands.training.together import together
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.imaging import Image
from edgead.progress import Progress

if TYPE_CHECKING:
    import torch

    from edgead.commands.training.backbone_session import BackboneSession
    from edgead.models.detector import Detector
    from edgead.train.distributed import World
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Rows

# keeps the random numbers of varied copies apart from those of pseudo-defects
VARIED = 1


def count_pseudo(config: Config, n_good: int) -> int:
    """Number of pseudo-defective copies of `n_good` images, or of their tiles."""
    return min(config.train.pseudo_limit, config.train.pseudo_defects * n_good)


def count_varied(config: Config, n_good: int) -> int:
    """Number of copies of `n_good` images, or of their tiles, with a change of light, noise or compression."""
    return 0 if config.train.variation == 0.0 else min(config.train.variation_limit, n_good)


class FormInputs:
    """Good images, and copies of them with a pseudo-defect or a change of light, as rows of a feature store.

    Each of the `tiles` inputs of an image is a row of its own. The rows of the good images come first, then those of the
    copies with a pseudo-defect, then those with a change of light, noise or compression.

    Args:
        config: All settings, fitted to the backbone.
        data: Good images.
        good: The same, in the order of their rows.
        run: Folder of the run, for features on disk.
        progress: Receiver of progress.
        world: Processes that compute the features together; None = this one alone.
    """

    def __init__(
        self,
        config: Config,
        data: TrainingData,
        good: tuple[Sample, ...],
        run: Path,
        progress: Progress,
        world: World | None = None,
    ) -> None:
        self.world = world
        self.config, self.good, self.run, self.progress = config, good, run, progress
        self.tiles = data.n_tiles
        self.n_inputs = len(good) * self.tiles
        self.pseudo = self._pseudo_origins()
        self.varied = self._varied_origins()

    def features(
        self,
        model: Detector,
        session: BackboneSession | None,
        device: torch.device,
        data: TrainingData,
    ) -> FeatureStore:
        """Features of all inputs and copies at the input size of `data`.

        Args:
            model: Model whose backbone gives them; it is on the CPU afterwards.
            session: The same backbone in ONNX Runtime; None = torch.
            device: Device of torch.
            data: Reader of the images.
        """
        config, n, tiles = self.config, self.n_inputs, self.tiles
        copies, varied = len(self.pseudo), len(self.varied)

        def read(index: int) -> Image:
            if index < n:
                return data.read_tile(self.good[index // tiles], index % tiles)
            if index >= n + copies:
                return data.read_varied(*self._varied_copy(index - n - copies))
            origin = self.pseudo[index - n]
            which, tile = divmod(origin, tiles)
            donor = self.good[(which + 1) % len(self.good)]
            return data.read_pseudo(self.good[which], donor, (config.train.seed, origin, index - n), tile)

        content = f"{data.digest}/{config.train.seed}/closed-form/{DRAWING}/{n}/{copies}/{varied}"
        return self._extracted(model, session, device, data, read, n + copies + varied, content, "Features")

    def kinds_of_varied(self, data: TrainingData) -> list[str]:
        """Name of the change of each copy in light, noise or compression."""
        return [data.varied_by(*self._varied_copy(number)) for number in range(len(self.varied))]

    def _varied_copy(self, number: int) -> tuple[Sample, tuple[int, ...], int]:
        """Image, key and tile that a copy is made of."""
        which, tile = divmod(self.varied[number], self.tiles)
        return self.good[which], (self.config.train.seed, VARIED, number), tile

    def known_features(
        self, model: Detector, session: BackboneSession | None, device: torch.device, data: TrainingData
    ) -> FeatureStore | None:
        """Features of the inputs of the known defects, in a store of their own; None without known defects.

        Args:
            model, session, device, data: See `features`.
        """
        known, tiles = data.known, self.tiles
        if known is None:
            return None

        def read(index: int) -> Image:
            return data.read_tile(known.samples[index // tiles], index % tiles)

        n = len(known.samples) * tiles
        return self._extracted(
            model, session, device, data, read, n, f"{known.digest}/known/{n}", "Features of known defects"
        )

    def _extracted(
        self,
        model: Detector,
        session: BackboneSession | None,
        device: torch.device,
        data: TrainingData,
        read: Callable[[int], Image],
        count: int,
        content: str,
        what: str,
    ) -> FeatureStore:
        import torch

        from edgead.train.features import FeatureStore, extract_features, feature_key

        task, config = f"{what} at {data.image_size[0]} px", self.config
        found = extract_features(
            session or model.backbone.to(device),
            read,
            count,
            device=device,
            memory_limit=0 if config.train.cache_dir else memory_limit(config, 1),
            folder=feature_folder(config, self.run),
            key=feature_key(model.backbone, content, data.preprocessing),
            progress=lambda done, total: self.progress.update(task, done, total),
            **together(self.world),
        )
        # the fits are few large sums in float64, which stay on the CPU
        model.cpu()
        return FeatureStore(found.arrays, torch.device("cpu"))

    def rows(self, good: Sequence[int], group_of: Sequence[int]) -> Rows:
        """Rows of the feature store for a fit on some of the good images, all tiles of each.

        Args:
            good: Numbers of the images.
            group_of: Group of each of all good images.
        """
        from edgead.train.left_out import Rows

        tiles, n = self.tiles, self.n_inputs
        inputs = [index * tiles + tile for index in good for tile in range(tiles)]
        place = {index: number for number, index in enumerate(inputs)}
        pseudo = [number for number, origin in enumerate(self.pseudo) if origin in place]
        varied = [number for number, origin in enumerate(self.varied) if origin in place]
        copies = n + len(self.pseudo)
        return Rows(
            tuple(inputs),
            tuple(n + number for number in pseudo),
            tuple(place[self.pseudo[number]] for number in pseudo),
            tuple(group_of[index // tiles] for index in inputs),
            tuple(copies + number for number in varied),
            tuple(place[self.varied[number]] for number in varied),
        )

    def _pseudo_origins(self) -> list[int]:
        """Inputs that get a pseudo-defective copy, spread over all of them."""
        n = self.n_inputs
        wanted = count_pseudo(self.config, n)
        random = np.random.default_rng(self.config.train.seed)
        order = [int(i) for _ in range(-(-wanted // n)) for i in random.permutation(n)][:wanted]
        # in the order of the images, each of which is then read once for all of its tiles
        return order if self.tiles == 1 else sorted(order)

    def _varied_origins(self) -> list[int]:
        """Inputs that get a copy with a change of light, noise or compression, spread over all of them."""
        random = np.random.default_rng((self.config.train.seed, VARIED))
        n = self.n_inputs
        order = [int(i) for i in random.permutation(n)[: count_varied(self.config, n)]]
        return order if self.tiles == 1 else sorted(order)
