"""Names of records: each video has its own, whatever it is called; and shares, which are nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_run.pipeline.batch_videos import FolderError, FoundVideo, file_name, parsed_shard, share_of, videos_in_folder

PARTS = st.one_of(
    st.sampled_from(["a.mp4", "a.mp4.json", "b.json", "c", "c~" + "0" * 32, "x" * 255, "x" * 254, "é" * 127, "..a", "a\n"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
        lambda part: part not in (".", "..")
    ),
)
NAMES = st.lists(PARTS, min_size=1, max_size=8).map("/".join)


@given(names=st.sets(NAMES, min_size=2, max_size=12))
def test_no_two_videos_share_a_record_and_no_record_is_in_the_way_of_a_folder(names: set[str]) -> None:
    records = [f"{file_name(name)}.json" for name in names]
    assert len(set(records)) == len(names)
    folders = {"/".join(record.split("/")[:depth]) for record in records for depth in range(1, record.count("/") + 1)}
    assert not folders & set(records)
    for record in records:
        assert all(0 < len(os.fsencode(part)) <= 255 and part not in (".", "..") for part in record.split("/"))
        assert len(os.fsencode(record)) < 1100


@pytest.mark.parametrize("name", ["a.mp4", "sub/b c.mkv", "🤸.mp4", "v_--0edUL8zmA.mp4"])
def test_usual_names_stay(name: str) -> None:
    assert file_name(name) == name


@given(names=st.sets(NAMES, max_size=30), count=st.integers(1, 7))
def test_shares_cover_all_and_do_not_overlap_whatever_comes_along(names: set[str], count: int) -> None:
    videos = [FoundVideo(name, Path(name), 0) for name in sorted(names)]
    shares = [share_of(videos, index, count) for index in range(1, count + 1)]
    assert sorted(video.name for share in shares for video in share) == sorted(names)
    half = videos[::2]
    for index, share in enumerate(shares, start=1):
        assert share_of(half, index, count) == [video for video in half if video in share]


@pytest.mark.parametrize(("text", "numbers"), [("1/1", (1, 1)), (" 3/7 ", (3, 7))])
def test_shards_are_read(text: str, numbers: tuple[int, int]) -> None:
    assert parsed_shard(text) == numbers


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "1/2/3", "-1/2", "1.5/2", "", "¹/2", "1/" + "9" * 30])
def test_shards_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no share: give i/n"):
        parsed_shard(text)


def test_folders_are_searched_once_in_an_order_that_stays(tmp_path: Path) -> None:
    for name in ("b/2.mp4", "b/1.MKV", "a.mp4", "c/d/3.webm", "c/d/no.txt", "x.mp4/4.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "b" / "up").symlink_to("..")
    (tmp_path / "a link").symlink_to("b")
    (tmp_path / "c" / "file.mp4").symlink_to("../a.mp4")
    videos, complaints = videos_in_folder(tmp_path)
    assert [video.name for video in videos] == ["a.mp4", "b/1.MKV", "b/2.mp4", "c/d/3.webm", "c/file.mp4", "x.mp4/4.mp4"]
    assert complaints == []
    assert videos[0].bytes == len("a.mp4")
    videos, _ = videos_in_folder(tmp_path, leave_out=[tmp_path / "c"])
    assert "c/d/3.webm" not in [video.name for video in videos]


def test_a_folder_that_is_not_there_is_asked_after(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "vidoes.mp4").write_bytes(b"")  # no folder
    with pytest.raises(FolderError, match=r"vidoes is no folder: did you mean 'videos'\?"):
        videos_in_folder(tmp_path / "vidoes")
    for name in ("qqq", "qqq/zzz"):
        with pytest.raises(FolderError, match="is no folder: give the one in which the videos lie"):
            videos_in_folder(tmp_path / name)


def test_what_lies_behind_a_link_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "1.mp4").touch()
    (tmp_path / "videos").mkdir()
    for name in ("y", "x", "z"):
        (tmp_path / "videos" / name).symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "videos")
    videos, _ = videos_in_folder(tmp_path / "videos")
    assert [video.name for video in videos] == ["x/1.mp4"]
