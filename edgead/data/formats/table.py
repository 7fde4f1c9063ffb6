"""Samples from a table of images, such as that of Real-IAD or of a manifest."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgead.data.dataset import Sample


@dataclass
class Table:
    """Samples that a table lists.

    Attributes:
        layout: Name of the format, for users.
        train: Good images of the training part.
        test: Images of the test part.
        has_parts: Whether the table says which images are for training; if not, `train` has all good ones.
        notes: Further sentences for users.
    """

    layout: str
    train: list[Sample] = field(default_factory=list)
    test: list[Sample] = field(default_factory=list)
    has_parts: bool = True
    notes: list[str] = field(default_factory=list)
