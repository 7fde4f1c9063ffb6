"""Systems that are emulated: Debian release, Python and pinned versions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One emulated system.

    Attributes:
        name: Name on the command line and of its folder.
        suite: Debian release.
        python: Version of that release's Python.
        glibc: Minor version of its C library, 2.x.
        libglib: Package of GLib, which OpenCV's wheel does not contain.
        pins: Versions to install instead of the newest.
    """

    name: str
    suite: str
    python: str
    glibc: int
    libglib: str
    pins: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian packages of the root."""
        return ("bash", "coreutils", "dash", "libc-bin", "python3", "libgl1", self.libglib)


VARIANTS = (
    # versions that NVIDIA's and the community's builds for JetPack 6 have; JetPack's own Python is 3.10
    Variant(
        "jetpack6", "bookworm", "3.11", 36, "libglib2.0-0",
        ("numpy==1.26.*", "onnxruntime==1.23.*", "opencv-python==4.11.*"),
    ),
    Variant("bookworm", "bookworm", "3.11", 36, "libglib2.0-0"),
    Variant("trixie", "trixie", "3.13", 41, "libglib2.0-0t64"),
)  # fmt: skip
