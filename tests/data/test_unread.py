"""Pictures in other formats and videos are named with what to do, and not left out in silence."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.layouts import find_dataset
from edgead.data.unread import unread_sentences
from edgead.errors import DataError


def test_usual_files_need_no_sentence() -> None:
    """Images, notes, annotations and hidden files are no news."""
    assert unread_sentences([Path("a.JPG"), Path("notes.txt"), Path("a.json"), Path("._b.HEIC"), Path(".c.mov")]) == []


def test_each_kind_is_counted_and_has_its_advice() -> None:
    """Pictures of a phone, other pictures and videos each come with what to do."""
    pictures, videos = unread_sentences([Path("d/B.HEIC"), Path("A.heic"), Path("c.webp"), Path("d.MOV")])
    assert "2 .heic files, 1 .webp file (A.heic, …)" in pictures
    assert "JPEG" in pictures
    assert "Most Compatible" in pictures
    assert "1 .mov file (d.MOV)" in videos
    assert "edgead collect" in videos
    assert "Most Compatible" not in unread_sentences([Path("c.webp")])[0]


@pytest.mark.parametrize("named", [False, True])
def test_a_data_set_says_what_it_leaves_out(tmp_path: Path, named: bool) -> None:
    """The sentence stands beside the counts, whether the folder is recognised or named by --good."""
    cv2.imwrite(str(tmp_path / "IMG_1.JPG"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "IMG_2.HEIC").touch()
    found = choose_dataset(tmp_path, FolderRoles(good=(tmp_path,))) if named else find_dataset(tmp_path)
    assert len(found.train) == 1
    assert "1 .heic file (IMG_2.HEIC)" in found.description


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_of_them_alone_says_what_to_do(tmp_path: Path, named: bool) -> None:
    """Without a readable image the hint is about these files, not about images in general."""
    (tmp_path / "IMG_2.HEIC").touch()
    with pytest.raises(DataError, match="no images") as caught:
        choose_dataset(tmp_path, FolderRoles(good=(tmp_path,))) if named else find_dataset(tmp_path)
    assert "Most Compatible" in caught.value.hint
