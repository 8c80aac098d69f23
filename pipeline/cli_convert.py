"""The command that writes detections in other forms. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tal_run.pipeline.cli_choices import Choice
from tal_run.pipeline.dry_run import check_folder, dry_run_option, said_files
from tal_run.pipeline.exits import DONE, WrongUse, errors_as_wrong_use
from tal_run.pipeline.formats import FORMATS, PAGE

if TYPE_CHECKING:
    from tal_run.pipeline.formats_base import FoundVideo
    from tal_run.pipeline.report import ReportVideo


class Rate(click.ParamType[Fraction]):
    """Frames a second: ``25``, ``29.97``, ``30000/1001``."""

    name = "fps"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        """The fraction that is meant: 29.97 and 23.976 are 30000/1001 and 24000/1001."""
        try:
            rate = Fraction(value)
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is no number of frames a second, such as 25 or 30000/1001", param, ctx)
        if not 0 < rate <= 10_000:
            self.fail(f"{value!r} must be above 0 and at most 10000", param, ctx)
        meant = Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001)
        return meant if rate.denominator > 1 and abs(meant - rate) < rate / 5_000 else rate


def choosing_options(command: Any) -> Any:
    """The options that leave detections out."""
    for option in reversed(
        [
            click.option("--min-score", type=float, metavar="S", help="Leave out what scores lower."),
            click.option("--top", type=click.IntRange(min=1), metavar="N", help="Of each video, the best N only."),
            click.option("--label", "labels", multiple=True, metavar="L", help="Only what has this label. Repeatable."),
        ]
    ):
        command = option(command)
    return command


def chosen(video: ReportVideo, *, min_score: float | None, top: int | None, labels: Sequence[str]) -> ReportVideo:
    """A video without what is to be left out; the best first."""
    from dataclasses import replace

    found = [
        detection
        for detection in video.detections
        if (min_score is None or detection.score >= min_score) and (not labels or detection.label in labels)
    ]
    return replace(video, detections=found[:top])


def check_labels(videos: Sequence[ReportVideo], labels: Sequence[str]) -> None:
    """Whether what was asked for occurs.

    Raises:
        WrongUse: it does not.
    """
    from tal_run.extractors.names import choices

    there = sorted({found.label for video in videos for found in video.detections})
    for label in labels:
        if label not in there:
            cure = choices(label, there) if there else "there are no detections"
            raise WrongUse(f"nothing here has the label {label!r}: {cure}")


def _formats_listed() -> str:
    width = max(map(len, FORMATS)) + 2
    return "\n".join(f"    {name:{width}}{form.ending:20}{form.about}" for name, form in FORMATS.items())


@click.command(
    help=f"""Write detections in another form.

\b
    tal-run convert found.json -o found.srt
    tal-run convert results/ -o subtitles/ --format vtt
    tal-run convert corrected/ -o truth.csv --annotations

DETECTIONS are files in any form below but ffmetadata, and folders of them: what was corrected in a tool comes back. FILE's
ending says which form to write; into a FOLDER goes a file for each video. What counts frames needs their rate: from tal-run's
own json, from --video, or from --fps.

\b
    format        ending              what it is, who opens it
{_formats_listed()}

json, jsonl, csv, thumos and label-studio keep six decimals of a score, eaf and cvat six digits; vtt, srt and edl two decimals
behind the label, chapters none. What has no score, as what a person adds, comes back with 1. Times are milliseconds, or whole
frames in edl, label-studio and cvat; thumos writes labels as it does (LongJump, or numbers), srt and edl on one line.

label-studio and cvat write a second file beside it: the labels, as the tool wants to be told of them. For a page or a figure,
`tal-run report`."""
)
@click.argument("detections", nargs=-1, required=True, metavar="DETECTIONS...")
@click.option("-o", "--output", "target", required=True, metavar="FILE|FOLDER", help="Write there.")
@click.option("--format", "format_name", type=Choice(list(FORMATS)), help="[default: by FILE's ending]")
@click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="PATH",
    help="A video, or a folder of them. Repeatable. [default: beside DETECTIONS]",
)
@click.option("--fps", "rate", type=Rate(), help="Frames a second of the videos, where nothing else says.")
@click.option(
    "--annotations",
    "is_truth",
    is_flag=True,
    help="What people have looked through: a CSV file without scores, for `train` and `eval --ground-truth`.",
)
@choosing_options
@dry_run_option
@click.option("--quiet", is_flag=True, help="No progress, no notes: errors only.")
def convert(
    detections: tuple[str, ...],
    target: str,
    format_name: str | None,
    videos: tuple[str, ...],
    rate: Fraction | None,
    is_truth: bool,
    min_score: float | None,
    top: int | None,
    labels: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
) -> None:
    """Write detections in another form; the help is above, with the list of forms."""
    from tal_run.pipeline import formats, outputs, report_files
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    with errors_as_wrong_use():
        place = Path(target)
        is_folder = target.endswith("/") or place.is_dir()
        if is_folder and not format_name:
            raise WrongUse(f"{target} is a folder: say in which form to write (--format vtt)")
        kind = format_name or outputs.format_of(place)
        if is_truth and (kind != "csv" or is_folder):
            raise WrongUse(f"{target} is to hold annotations: let it be one file whose name ends in .csv")
        if kind == PAGE:
            raise WrongUse(f"{target} is to be a page: tal-run report {detections[0]} -o {target}")
        if not is_folder:
            outputs.check_writable(place, inputs=(*detections, *videos))
        with display.progress() as hook:
            found = report_files.gather(detections, videos=videos, verify=bool(videos), rate=rate, hook=hook)
        if FORMATS[kind].is_of_one and len(found.videos) > 1 and not place.suffix and not place.exists():
            is_folder = True  # a new name without an ending, for several files
        check_labels(found.videos, labels)
        listed = [chosen(video, min_score=min_score, top=top, labels=labels) for video in found.videos]
        shown = [_found(video, rate, kind, varies=_varies(found.whole, video.name)) for video in listed]
        if is_folder:
            check_folder(place) if dry_run else outputs.make_folder(place)
            names = outputs.file_names([video.name for video in shown], FORMATS[kind].ending)
            written = [
                each
                for name, video in zip(names, shown, strict=True)
                for each in outputs.texts(kind, [video], place / name, made_by=_of_one(found.whole, video.name))
            ]
        elif is_truth:
            written = [(None if outputs.is_stream(place) else place, formats.truth_table(shown))]
        else:
            written = outputs.texts(kind, shown, None if outputs.is_stream(place) else place, made_by=found.whole)
        for path, _ in written:  # the second file, and those in a folder, have names that nobody gave
            if not dry_run or (path or place).parent.is_dir():
                outputs.check_writable(path or place, inputs=(*detections, *videos, *_inside(detections)))
        if dry_run:
            said_files([path or place for path, _ in written], kind)
        for path, text in [] if dry_run else written:
            outputs.write(path or place, text)
    for note in [
        *found.notes,
        *outputs.frame_notes(kind, shown),
        *(note for video in found.videos for note in video.notes if "sha256" in note),
    ]:
        display.say(f"note: {note}")
    count = sum(len(video.detections) for video in shown)
    where = (
        f"{len(shown)} files in {target}"
        if is_folder and len(shown) > 1
        else ", ".join(str(path or place) for path, _ in written)
    )
    display.say(f"{'would be in ' * dry_run}{where}: {_many(len(shown), 'video')}, {_many(count, 'segment')}")
    sys.exit(DONE)


def _inside(inputs: Sequence[str]) -> list[str]:
    """The files in folders that were given."""
    return [str(path) for entry in inputs if Path(entry).is_dir() for path in Path(entry).rglob("*") if path.is_file()]


def _found(video: ReportVideo, rate: Fraction | None, kind: str, *, varies: bool) -> FoundVideo:
    """As files have it; where frames count and nothing says how many there are a second, the video is asked."""
    from tal_run.extractors.video import probe
    from tal_run.pipeline.formats_base import FoundVideo
    from tal_run.pipeline.outputs import rate_of

    known, size, duration_s = rate or video.rate, video.size, video.duration_s
    if FORMATS[kind].counts_frames and video.path and (known is None or size is None):
        info = probe(video.path)
        known, size, duration_s = known or rate_of(info), (info.width, info.height), info.duration_s
        varies = info.is_variable_rate
    return FoundVideo(
        name=video.name,
        detections=video.detections,
        path=video.path,
        file=video.file,
        duration_s=duration_s,
        rate=known,
        size=size,
        rate_varies=varies and rate is None,
    )


def _varies(whole: Any, name: str) -> bool:
    """Whether a video's frames come at uneven times, as what made the results says."""
    videos = whole.get("videos")
    card = videos.get(name) if isinstance(videos, dict) else None
    return isinstance(card, dict) and card.get("fps_varies") is True


def _of_one(whole: Any, name: str) -> dict[str, Any]:
    """What made the results of one video."""
    videos = whole.get("videos")
    own = videos.get(name) if isinstance(videos, dict) else None
    return {**{key: value for key, value in whole.items() if key != "videos"}, **({"videos": {name: own}} if own else {})}


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
