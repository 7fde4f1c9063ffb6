"""Search for the pose of a part in a frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.imaging import Image
from edgead.pose import Matrix, Pose, PoseRange, between, product

Grey = NDArray[np.float32]

# Longest side of the reference picture, in pixels: a quarter of a pixel of it is under one of a 320 px input.
WORKING_SIDE = 128
_SEARCH_SIDE, _MIDDLE_SIDE = 48, 64
_SOFT_SIGMA = 2.0
_ANGLE_STEP_DEG, _SCALE_STEP = 4.0, 0.08
_N_CORNERS, _LEAST_CORNERS = 100, 6
_TRACK_ROUNDS = 2
_OUTLIER_PX = 1.5
_ECC_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 1e-4)
# Share of the reference that a frame must show to be compared with it.
_LEAST_SEEN = 0.4
# Poses may lie this far beyond the searched range, which is a grid.
_SLACK = 1.25


class PoseFinder:
    """Finds the pose of a part in frames.

    Edges are compared with rotated and scaled copies of the reference picture (`cv2.matchTemplate`); the best place is
    refined by corners that are tracked from the reference (`cv2.calcOpticalFlowPyrLK`) and a similarity that most of them
    follow (`cv2.estimateAffinePartial2D`), so that a missing piece or a defect does not pull it away. Where that does not
    make the frame resemble the reference as usual, further starts are refined (`cv2.findTransformECC` on softened edges)
    and the best one is taken: parts with repeated details, such as ribs, need it.

    Args:
        reference: Grey reference picture `(h, w)`, uint8, at most `WORKING_SIDE` pixels a side.
        search: Range of poses.
        usual_likeness: Likeness at which the first pose is taken.
    """

    def __init__(self, reference: NDArray[np.uint8], search: PoseRange, usual_likeness: float = 1.0) -> None:
        self.reference = reference
        self.search = search
        self.usual_likeness = usual_likeness
        self.size = (reference.shape[0], reference.shape[1])
        grey = reference.astype(np.float32)
        self._level, self._deviation = float(grey.mean()), float(grey.std())
        self._edges = _edges(grey)
        self._search_size, self._middle_size = (_within(self.size, side) for side in (_SEARCH_SIDE, _MIDDLE_SIDE))
        self._middle = _softened(_resized(grey, self._middle_size))
        self._corners = cv2.goodFeaturesToTrack(reference, _N_CORNERS, 0.005, 4)
        self._margin = tuple(max(1, round(side * search.shift)) for side in self._search_size)
        self._angles = _angles(search.angle_deg)
        self._scales = _scales(search.scale)
        self._templates = [[self._template(grey, angle, scale) for angle in self._angles] for scale in self._scales]

    def find(self, image: Image) -> Pose | None:
        """Find the part in a frame `(H, W, 3)`, uint8, RGB, of any size; None if nothing lies within the range."""
        grey = grey_picture(image, self.size).astype(np.float32)
        best: Pose | None = None
        for start in self._starts(grey):
            pose = self._tracked(grey, start)
            if pose is not None and (best is None or pose.likeness > best.likeness):
                best = pose
            if best is not None and best.likeness >= self.usual_likeness:
                break
        return best

    def likeness(self, grey: Grey, matrix: Matrix) -> float:
        """Correlation of edges after a frame `(h, w)` was aligned by a matrix; 0 where too little of it can be seen."""
        height, width = self.size
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        aligned = cv2.warpAffine(grey, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        seen = cv2.warpAffine(np.ones(self.size, np.uint8), matrix, (width, height), flags=flags)
        seen = cv2.erode(seen, np.ones((5, 5), np.uint8)).astype(np.bool_)
        if seen.mean() < _LEAST_SEEN:
            return 0.0
        one, other = self._edges[seen], _edges(np.asarray(aligned, np.float32))[seen]
        one, other = one - one.mean(), other - other.mean()
        return float((one * other).sum() / (math.sqrt(float((one * one).sum() * (other * other).sum())) + 1e-6))

    def _template(self, grey: Grey, angle: float, scale: float) -> tuple[Matrix, Grey]:
        """The part at an angle and a scale: its matrix, and the middle of its edges at the size of the search."""
        height, width = self.size
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
        moved = cv2.warpAffine(grey, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        edges = _edges(_resized(np.asarray(moved, np.float32), self._search_size))
        above, left = self._margin
        return np.asarray(matrix, np.float64), np.ascontiguousarray(edges[above:-above, left:-left])

    def _starts(self, grey: Grey) -> Iterator[Matrix]:
        """Matrices to refine, the most promising first."""
        edges = _edges(_resized(grey, self._search_size))
        found = [max((self._best_place(edges, row[i]) for row in self._templates), key=lambda place: place[0])
                 for i in range(len(self._angles))]  # fmt: skip
        values = [value for value, _ in found]
        peaks = [i for i, value in enumerate(values) if value >= max(values[max(0, i - 1) : i + 2])]
        peaks.sort(key=lambda i: -values[i])
        yield found[peaks[0]][1]
        middle = _softened(_resized(grey, self._middle_size))
        refined = [self._refined(middle, found[i][1]) for i in peaks[:3]]
        yield from (matrix for _, matrix in sorted(refined, key=lambda one: -one[0])[:2])

    def _best_place(self, edges: Grey, template: tuple[Matrix, Grey]) -> tuple[float, Matrix]:
        matrix, pattern = template
        _, value, _, place = cv2.minMaxLoc(cv2.matchTemplate(edges, pattern, cv2.TM_CCOEFF_NORMED))
        above, left = self._margin
        step = (self.size[1] / self._search_size[1], self.size[0] / self._search_size[0])
        moved = matrix.copy()
        moved[:, 2] += ((place[0] - left) * step[0], (place[1] - above) * step[1])
        return value, moved

    def _refined(self, middle: Grey, start: Matrix) -> tuple[float, Matrix]:
        """A start after a descent on softened edges, with its correlation; -1 if it leads nowhere."""
        matrix = between(start, self.size, self._middle_size).astype(np.float32)
        try:
            value, moved = cv2.findTransformECC(
                self._middle,
                middle,
                matrix,
                cv2.MOTION_AFFINE,
                _ECC_STOP,
                None,
                1,  # type: ignore[call-overload]
            )
        except cv2.error:  # no overlap, or no convergence
            return -1.0, start
        return value, between(
            _similarity(np.asarray(moved, np.float64), self._middle_size), self._middle_size, self.size
        )

    def _tracked(self, grey: Grey, matrix: Matrix) -> Pose | None:
        """A start after its corners were tracked; None if it leaves the range."""
        if self._corners is None:
            return None
        height, width = self.size
        for _ in range(_TRACK_ROUNDS):
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            moved = cv2.warpAffine(grey, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            gain = self._deviation / (float(moved.std()) + 1e-6)
            shown = np.clip((moved - moved.mean()) * gain + self._level, 0, 255).astype(np.uint8)
            points, status, _ = cv2.calcOpticalFlowPyrLK(
                self.reference,
                shown,
                self._corners,
                None,
                winSize=(13, 13),
                maxLevel=2,  # type: ignore[call-overload]
            )
            known = status.ravel() > 0
            if known.sum() < _LEAST_CORNERS:
                break
            change, _ = cv2.estimateAffinePartial2D(
                self._corners[known], points[known], method=cv2.RANSAC, ransacReprojThreshold=_OUTLIER_PX
            )
            if change is None:
                break
            matrix = product(matrix, change)
        pose = Pose(matrix, self.size, self.likeness(grey, matrix))
        return pose if self._is_within(pose) else None

    def _is_within(self, pose: Pose) -> bool:
        search = self.search
        return (
            abs(pose.angle_deg) <= _SLACK * search.angle_deg + _ANGLE_STEP_DEG
            and max(map(abs, pose.shift)) <= _SLACK * search.shift + 0.02
            and abs(math.log(pose.scale)) <= _SLACK * search.scale + 0.02
        )


def grey_picture(image: Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image `(H, W, 3)`, uint8, RGB, in grey and at `size` (height, width)."""
    return np.asarray(cv2.cvtColor(_resized(image, size), cv2.COLOR_RGB2GRAY), np.uint8)


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """Size of a reference picture for images of `size` (height, width): the same aspect."""
    return _within(size, WORKING_SIDE)


def _angles(largest: float) -> list[float]:
    if largest >= 180:
        n = round(360 / _ANGLE_STEP_DEG)
        return [i * 360 / n for i in range(n)]
    n = math.ceil(2 * largest / _ANGLE_STEP_DEG)
    return [largest * (2 * i / n - 1) for i in range(n + 1)] if n else [0.0]


def _scales(largest: float) -> list[float]:
    n = max(1, math.ceil(2 * largest / _SCALE_STEP - 1e-9))
    return [1 + largest * ((2 * i + 1) / n - 1) for i in range(n)]


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    factor = longest / max(size)
    return max(8, round(size[0] * factor)), max(8, round(size[1] * factor))


def _resized(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def _edges(grey: Grey) -> Grey:
    """Strength of edges: it does not depend on which side is brighter, so that turned shading matters less."""
    soft = cv2.GaussianBlur(grey, (0, 0), 1.0)
    return np.asarray(cv2.magnitude(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)), np.float32)


def _softened(grey: Grey) -> Grey:
    """Edges so blurred that fine repeated details vanish."""
    return np.asarray(cv2.GaussianBlur(_edges(grey), (0, 0), _SOFT_SIGMA), np.float32)


def _similarity(matrix: Matrix, size: tuple[int, int]) -> Matrix:
    """The similarity that is nearest to an affine matrix, with the same place of the centre."""
    along, across = (matrix[0, 0] + matrix[1, 1]) / 2, (matrix[1, 0] - matrix[0, 1]) / 2
    turn = np.array([[along, -across], [across, along]])
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    return np.column_stack([turn, matrix[:, :2] @ centre + matrix[:, 2] - turn @ centre])
