"""The command that cuts out what was found. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tal_run.pipeline.cli_convert import check_labels, choosing_options, chosen
from tal_run.pipeline.dry_run import check_folder, dry_run_option, said, said_files
from tal_run.pipeline.exits import DONE, SOME_FAILED, STOPPED, WrongUse, errors_as_wrong_use

if TYPE_CHECKING:
    from tal_run.pipeline.report import ReportVideo
    from tal_run.pipeline.screen import Screen


@click.command()
@click.argument("detections", nargs=-1, required=True, metavar="DETECTIONS...")
@click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="PATH",
    help="A video, or a folder of them. Repeatable. [default: beside DETECTIONS]",
)
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Write there.")
@click.option(
    "--margin", "margin_s", type=click.FloatRange(0, 3600), default=0.0, metavar="S", help="Seconds before and after."
)
@click.option("--exact", is_flag=True, help="From the very frame, encoded anew. [default: copied from the key frame before]")
@choosing_options
@click.option("--again", is_flag=True, help="Replace what is there, also what is not ours.")
@dry_run_option
@click.option("--quiet", is_flag=True, help="No progress, no notes: errors only.")
def clips(
    detections: tuple[str, ...],
    videos: tuple[str, ...],
    folder: Path,
    margin_s: float,
    exact: bool,
    min_score: float | None,
    top: int | None,
    labels: tuple[str, ...],
    again: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Cut what was found out of the videos.

    \b
    tal-run clips found.json --video match.mp4 -o clips --margin 1

    A file a segment, with its sound, named by video, label and time: match_long-jump_0-11.6-0-20.4.mp4. Pictures and sound
    are copied as they are, so a clip begins with the key frame at or before its start; --exact encodes anew what is between
    start and end, frame by frame. A clip that is there and was made in the same way is kept; what tal-run did not make is not
    overwritten.
    """
    from tal_run.pipeline import outputs, report_files
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    with errors_as_wrong_use():
        with display.progress() as hook:
            found = report_files.gather(detections, videos=videos, verify=False, hook=hook)
        check_labels(found.videos, labels)
        listed = [chosen(video, min_score=min_score, top=top, labels=labels) for video in found.videos]
        if all(video.path is None for video in listed):
            raise WrongUse(listed[0].trouble)
        check_folder(folder) if dry_run else outputs.make_folder(folder)
    for note in found.notes:
        display.say(f"note: {note}")
    made, kept, failed, early_s = 0, 0, 0, 0.0
    try:
        for video in listed:
            counts = _cut(
                video,
                folder,
                _wanted_digest(found.whole, video.name),
                display,
                margin_s=margin_s,
                exact=exact,
                again=again,
                dry_run=dry_run,
            )
            made, kept, failed, early_s = made + counts[0], kept + counts[1], failed + counts[2], max(early_s, counts[3])
    except KeyboardInterrupt:
        display.error("stopped; the clips that are there are whole")
        sys.exit(STOPPED)
    early = f"; they begin up to {early_s:.1f} s early, with a key frame (--exact)" if early_s >= 0.05 else ""
    if dry_run:
        said(f"{folder}: {made} would be made, {kept} kept, {failed} would fail")
        sys.exit(SOME_FAILED if failed else DONE)
    display.say(f"{folder}: {made} made, {kept} kept, {failed} failed{early}")
    sys.exit(SOME_FAILED if failed else DONE)


def _cut(
    video: ReportVideo, folder: Path, wanted: str, display: Screen, *, margin_s: float, exact: bool, again: bool, dry_run: bool
) -> tuple[int, int, int, float]:
    """Cut one video's clips: how many were made, kept, could not be made, and how much too early they begin at most."""
    from tal_run.extractors.errors import TalRunError
    from tal_run.extractors.weights import sha256_of
    from tal_run.pipeline import clips

    if not video.detections:
        return 0, 0, 0, 0.0
    if video.path is None:
        display.error(video.trouble)
        return 0, 0, len(video.detections), 0.0
    made = kept = failed = 0
    early_s = 0.0
    try:
        digest = sha256_of(video.path)
        if wanted and wanted != digest:
            display.say(
                f"note: {video.path.name} is not the file that these detections were made of (its sha256 is another one)"
            )
        with clips.ClipSource(video.path, digest=digest) as source, display.progress(video.name) as hook:
            plan = clips.planned(video.name, video.detections, duration_s=source.duration_s, margin_s=margin_s)
            if len(plan) < len(video.detections):
                failed += len(video.detections) - len(plan)
                display.error(
                    f"{video.name}: {failed} segments begin behind its end ({source.duration_s:.1f} s): is it the right video?"
                )
            for number, clip in enumerate(plan):
                hook("cutting", completed=number, total=len(plan))
                try:
                    if dry_run:
                        is_kept = source.is_kept(clip, folder, exact=exact, again=again)
                        made, kept = made + (not is_kept), kept + is_kept
                        said_files([] if is_kept else [source.target(clip, folder, exact=exact)])
                        continue
                    cut = source.cut(clip, folder, exact=exact, again=again)
                except TalRunError as error:
                    display.error(str(error))
                    failed += 1
                    continue
                made, kept = made + (not cut.is_kept), kept + cut.is_kept
                if cut.start_s is not None:
                    early_s = max(early_s, clip.start_s - cut.start_s)
    except (TalRunError, OSError) as error:
        display.error(str(error))
        failed += len(video.detections) - made - kept - failed
    return made, kept, failed, early_s


def _wanted_digest(whole: object, name: str) -> str:
    """The sha256 of the video that the detections were made of; empty: not known."""
    videos = whole.get("videos") if isinstance(whole, dict) else None
    card = videos.get(name) if isinstance(videos, dict) else None
    digest = card.get("sha256") if isinstance(card, dict) else None
    return digest if isinstance(digest, str) else ""
