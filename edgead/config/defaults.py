"""Defaults that the settings and the help of the command line share; plain values, so that help imports nothing heavy."""

from __future__ import annotations

from typing import Final

DATA_ROOT: Final = "data"
MODEL: Final = "usf"
BASE: Final = "normal"
BACKBONE: Final = "tf_efficientnet_lite0"
PRESET: Final = "balanced"
IMAGE_SIZE: Final = 320
COMPOSITION: Final = "8"
EPOCHS: Final = 6
DEVICE: Final = "auto"
SEED: Final = 0
ROBUSTNESS_IMAGES: Final = 100
FALSE_ALARM_RATE: Final = 0.005
