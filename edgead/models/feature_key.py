"""Name of a feature map of the backbone, as written in a configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgead.errors import ConfigError

_FORM = re.compile(
    r"(?:(?:(?P<backbone>[A-Za-z0-9_.-]+)\*)?(?P<size>[0-9]{1,5})/)?(?P<stride>[0-9]{1,5})(?:@(?P<block>[0-9]{1,5}))?"
)


@dataclass(frozen=True)
class FeatureKey:
    """Layer of a network, and the image size that the network runs at.

    Written `[[BACKBONE*]SIZE/]STRIDE[@BLOCK]`:

    - `16`: the stage of stride 16 of the main backbone, at the main image size;
    - `16@7`: block 7, counted from 0, of a transformer, all of whose blocks have the same stride;
    - `128/16`: the same backbone on the image shrunk to 128 px;
    - `64/1`: the image itself, shrunk to 64 px;
    - `cait_s24_224*224/16@20`: another backbone, on the image shrunk to 224 px.

    Args:
        backbone: timm model name; None = the main backbone.
        size: Side of the network's input image, in pixels; None = the main image size.
        stride: Number of pixels of that image per position of the map.
        block: Index of a transformer's block; None for a network with stages.

    Raises:
        ValueError: If a backbone has no size, or a number is out of range.
    """

    backbone: str | None
    size: int | None
    stride: int
    block: int | None

    def __post_init__(self) -> None:
        if self.backbone is not None and self.size is None:
            raise ValueError(f"a key with a backbone needs an image size (got {self.backbone!r} without)")
        if self.stride < 1 or (self.size is not None and self.size < 1) or (self.block is not None and self.block < 0):
            raise ValueError(f"size and stride must be 1 or more, block 0 or more (got {self})")

    @staticmethod
    def parse(text: str) -> FeatureKey:
        """Parse the written form; surrounding spaces and leading zeros are ignored.

        Raises:
            ConfigError: If the text does not have that form.
        """
        match = _FORM.fullmatch(text.strip())
        size, stride, block = (_number(match, name) for name in ("size", "stride", "block"))
        if not match or not stride or size == 0:
            raise ConfigError(
                f"model.levels names a feature map {text!r}; it must be [[BACKBONE*]SIZE/]STRIDE[@BLOCK].",
                hint="For example 16, 16@7 (block of a transformer), 128/16 (image shrunk to 128 px) or "
                "cait_s24_224*224/16@20 (another backbone).",
            )
        return FeatureKey(match["backbone"], size, stride, block)

    def __str__(self) -> str:
        """Canonical text, which `parse` reads back."""
        backbone = "" if self.backbone is None else f"{self.backbone}*"
        size = "" if self.size is None else f"{self.size}/"
        block = "" if self.block is None else f"@{self.block}"
        return f"{backbone}{size}{self.stride}{block}"


def _number(match: re.Match[str] | None, name: str) -> int | None:
    return None if match is None or match[name] is None else int(match[name])
