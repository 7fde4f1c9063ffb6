"""GStreamer's Python binding: import, available elements and their properties."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from edgead.errors import MissingDependencyError, SourceError
from edgead.stream.sources.gst_pipelines import CONVERTER, HARDWARE_DECODER, RECEIVING, Element, decoding

PACKAGES = (
    "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav"
)
INSTALL = (
    f"sudo apt install {PACKAGES}, and let the environment see them: /usr/bin/python3 -m venv --system-site-packages. "
    "For another Python: sudo apt install libgirepository1.0-dev libcairo2-dev, then pip install 'edgead[gstreamer]'"
)


@functools.cache
def gstreamer() -> Any:
    """Import and initialise the module `Gst`.

    Raises:
        MissingDependencyError: If the binding or GStreamer's descriptions for it are not installed.
    """
    try:
        import gi

        for name in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(name, "1.0")
        from gi.repository import Gst, GstApp, GstVideo  # noqa: F401  # those two give Gst's objects their methods
    except (ImportError, ValueError) as error:
        raise MissingDependencyError("gi", needed_for="A GStreamer pipeline", install=INSTALL) from error
    Gst.init(None)
    return Gst


def has_element(name: str) -> bool:
    """Whether GStreamer has an element of this name on this machine."""
    return gstreamer().ElementFactory.find(name) is not None


def decodes_in_hardware() -> bool:
    """Whether this machine has a hardware decoder that edgead can reach; False without the binding."""
    if importlib.util.find_spec("gi") is None:
        return False
    try:
        return has_element(HARDWARE_DECODER) and has_element(CONVERTER)
    except MissingDependencyError:
        return False


def decodes_rtsp() -> bool:
    """Whether GStreamer can receive and decode the usual RTSP cameras on this machine; False without the binding."""
    if importlib.util.find_spec("gi") is None:
        return False
    try:
        return all(map(has_element, RECEIVING)) and decoding("H264", has_element) is not None
    except MissingDependencyError:
        return False


def make_element(element: Element) -> Any:
    """Make a Gst.Element with its properties set.

    Raises:
        SourceError: If this machine's GStreamer lacks the element or one of its properties.
    """
    gst = gstreamer()
    made = gst.ElementFactory.make(element.factory, None)
    if made is None:
        raise SourceError(f"GStreamer has no element {element.factory} here.", hint=f"Install: {PACKAGES}")
    set_properties(made, element)
    return made


def set_properties(made: Any, element: Element) -> None:
    """Set the properties of a description on a Gst.Element.

    Raises:
        SourceError: If the element lacks a required property.
    """
    gst = gstreamer()
    for name, value in (*element.properties.items(), *element.optional.items()):
        known = made.find_property(name)
        if known is None and name in element.optional:
            continue
        if known is None:
            raise SourceError(
                f"GStreamer's {element.factory} has no property {name} ({gst.version_string()}).",
                hint="edgead needs GStreamer 1.16 or newer.",
            )
        if isinstance(value, str) and known.value_type.name != "gchararray":
            gst.util_set_object_arg(made, name, value)  # reads enumerations, flags and caps
        else:
            made.set_property(name, value)
