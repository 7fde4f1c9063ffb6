"""A feature map's name is read as it is written, or refused with an example."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import ConfigError
from edgead.models.feature_key import FeatureKey

NUMBERS = st.integers(1, 99999)
PLAIN = st.builds(FeatureKey, st.none(), st.none() | NUMBERS, NUMBERS, st.none() | st.integers(0, 99999))
NAMES = st.text("abcxyzABC019_.-", min_size=1)
NAMED = st.builds(FeatureKey, NAMES, NUMBERS, NUMBERS, st.none() | st.integers(0, 99999))


@given(PLAIN | NAMED)
def test_every_key_is_read_back_from_its_text(key: FeatureKey) -> None:
    """Parsing the written form gives the key again, spaces around it or not."""
    assert FeatureKey.parse(str(key)) == key
    assert FeatureKey.parse(f"  {key} ") == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("16", FeatureKey(None, None, 16, None)),
        ("16@7", FeatureKey(None, None, 16, 7)),
        ("16@0", FeatureKey(None, None, 16, 0)),
        ("128/16", FeatureKey(None, 128, 16, None)),
        ("224/16@20", FeatureKey(None, 224, 16, 20)),
        ("cait_s24_224*224/16@20", FeatureKey("cait_s24_224", 224, 16, 20)),
        ("tf_efficientnet_b6.aa_in1k*512/16", FeatureKey("tf_efficientnet_b6.aa_in1k", 512, 16, None)),
    ],
)
def test_the_documented_forms(text: str, key: FeatureKey) -> None:
    """Each documented form means what is documented, and is its own canonical text."""
    assert FeatureKey.parse(text) == key
    assert str(key) == text


def test_leading_zeros_do_not_count() -> None:
    """Two ways to write a number give one canonical text."""
    assert str(FeatureKey.parse("0128/016@07")) == "128/16@7"


@pytest.mark.parametrize(
    "text",
    ["", "x", "16@", "@7", "/16", "16/", "0", "0/16", "-16", "1.5", "16@-1", "resnet18*16", "*64/16", "a b*64/16",
     "16@7@8", "64/32/16", "１６", "16\n32"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    """A malformed key is shown unchanged, with examples of valid ones."""
    with pytest.raises(ConfigError) as caught:
        FeatureKey.parse(text)
    assert repr(text) in caught.value.message
    assert "16@7" in caught.value.hint


@pytest.mark.parametrize("values", [("resnet18", None, 16, None), (None, 0, 16, None), (None, None, 0, None), (None, None, 16, -1)])  # fmt: skip
def test_a_key_that_has_no_text_cannot_be_made(values: tuple[str | None, int | None, int, int | None]) -> None:
    """Values that no text means are refused by the class too."""
    with pytest.raises(ValueError, match=r"must be|needs an image size"):
        FeatureKey(*values)


def test_keys_need_no_torch() -> None:
    """Reading a configuration loads no heavy package."""
    code = "import sys, edgead.models.feature_key; print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
