"""What choosing a detector by name sets, beyond the defaults of each setting."""

from __future__ import annotations

from typing import Any

_PUBLISHED: dict[str, Any] = {"levels": ("8", "16", "32"), "positions": False, "couplings": "always"}

# Defaults of the other model settings per detector; reference in each line.
PRESETS: dict[str, dict[str, Any]] = {
    "usf": {},
    # Yu et al., 2021: 8 steps, 3-1 kernels (the WideResNet row), hidden ratio 1
    "fastflow": {**_PUBLISHED, "blocks": 8, "kernels": ((3, 3), (1, 1)), "hidden_ratio": 1.0},
    # Gudovskiy et al., 2021: 8 steps on single feature vectors, 128-channel position code, hidden width 2 x input
    "cflow": {
        **_PUBLISHED,
        "blocks": 8,
        "kernels": ((1, 1),),
        "hidden_ratio": 2.0,
        "position_channels": 128,
        "clamp": 1.9,
        "likelihood_map": True,
        "loss": "log_sigmoid",
    },
    # Tailanian et al., 2024: 4 steps per scale, 3-1 kernels
    "uflow": {**_PUBLISHED, "blocks": 4, "kernels": ((3, 3), (1, 1)), "hidden_ratio": 1.0},
    # Yao et al., 2024: 12 conditional steps on one stride of an image pyramid
    "hgad": {
        **_PUBLISHED,
        "levels": ("16",),
        "pyramid": (320, 160),
        "blocks": 12,
        "kernels": ((1, 1),),
        "hidden_ratio": 2.0,
        "position_channels": 256,
        "clamp": 1.9,
        "likelihood_map": True,
    },
    # Abu Zaid et al., 2025, its code for MVTec AD: 10 steps over a 256-dimensional latent
    "vae-usf": {**_PUBLISHED, "levels": ("32",), "blocks": 10, "kernels": ((1, 1),), "hidden_ratio": 4.0},
}
MIXES = {"fastflow": "permutation", "cflow": "soft_permutation", "uflow": "permutation", "hgad": "soft_permutation"}

# Defaults of the training per detector: the published ones train on clean features and keep the last epoch.
_TRAIN_PUBLISHED: dict[str, Any] = {"noise": 0.0, "keep": "last", "learning_rate": 1e-3, "epochs": 40}
TRAIN_PRESETS: dict[str, dict[str, Any]] = {
    "fastflow": _TRAIN_PUBLISHED,
    "cflow": {**_TRAIN_PUBLISHED, "fibers": 4096},
    "uflow": _TRAIN_PUBLISHED,
    "hgad": {**_TRAIN_PUBLISHED, "fibers": 4096},
    "vae-usf": _TRAIN_PUBLISHED,
}
