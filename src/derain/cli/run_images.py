"""``derain run`` on image files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derain import images
from derain.files import check_output, output_exists, write_bytes
from derain.images import Picture
from derain.sources import Source

from .console import ProgressBar, Report
from .inputs import Work
from .run_options import RunOptions

if TYPE_CHECKING:
    from derain.derainer import Derainer

_SHEET_SIDE = 1600  # longest side of one half of a before | after sheet, pixels


def run_images(work: Work, derainer: Derainer, options: RunOptions, report: Report) -> None:
    """Derain image files, several at a time if asked; a failure is reported and does not stop the others."""
    if not work:
        return
    stopped = threading.Event()
    waiting = iter(work)
    running: set[Future[None]] = set()
    with report.progress(len(work), "deraining") as bar, ThreadPoolExecutor(options.jobs) as pool:
        try:
            while True:
                # Few in flight, so that memory stays bounded.
                while len(running) < options.jobs and (item := next(waiting, None)) is not None:
                    running.add(pool.submit(_derain_file, *item, derainer, options, report, bar, stopped))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
        except BaseException:
            stopped.set()  # threads stop after their current tile
            raise


def _derain_file(
    source: Source,
    path: Path,
    derainer: Derainer,
    options: RunOptions,
    report: Report,
    bar: ProgressBar,
    stopped: threading.Event,
) -> None:
    start = time.perf_counter()
    with bar.item() as advance, report.catch(input=str(source.path)) as record:

        def on_tile(done: int, total: int) -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            advance(done, total)

        kind = images.format_for(path)  # an unsupported suffix is reported before the work is done
        sheet = path.with_name(f"{path.stem}_compare.jpg")
        # The result comes last, so that after a stop --skip-existing repeats a file without it; its sheet is kept.
        if options.clip.compare:
            check_output(sheet, options.overwrite or options.skip_existing)
        before = images.read(source.path)
        after = derain_image(derainer, before, options, record, on_tile)
        written = images.fit(after, kind)
        if options.clip.compare:
            if options.overwrite or not output_exists(sheet):
                write_bytes(_comparison_sheet(before, after), sheet, overwrite=options.overwrite)
            record["compare"] = str(sheet)
        written.save(path, quality=options.quality, overwrite=options.overwrite)
        report_image(report, options, written, time.perf_counter() - start, str(path), record)


def derain_image(
    derainer: Derainer, image: Picture, options: RunOptions, record: dict[str, Any], on_step: Callable[[int, int], None]
) -> Picture:
    """The derained image, by an adapted network if asked; the outcome of adapting goes into the record."""
    if not options.adapt:
        return derainer(image, strength=options.clip.strength, on_tile=on_step)
    after, outcome = derainer.adapt(image, strength=options.clip.strength, on_step=on_step)
    record.update(adapted=not outcome.refused, share=round(outcome.share, 2))
    if outcome.refused:
        record.update(refused=outcome.refused)
    return after


def report_image(
    report: Report, options: RunOptions, image: Picture, seconds: float, where: str, record: dict[str, Any]
) -> None:
    """Report a finished file, with megapixels per second from file to file, and the notes of what was written."""
    width, height = image.size
    rate = width * height / seconds / 1e6
    details = f"{seconds:.1f} s" + (f", {width}×{height}, {rate:.3g} megapixels/s" if options.verbose else "")
    record.update(output=where, seconds=round(seconds, 3), size=[width, height], model=options.model)
    record["megapixels_per_second"] = float(f"{rate:.3g}")
    if image.notes:
        record["notes"] = list(image.notes)
    notes = "".join(f"\n  note: {note}" for note in image.notes)
    report.succeed(f"{record['input']} → {where} ({details})" + _adaptation(record) + notes, **record)


def _adaptation(record: dict[str, Any]) -> str:
    """What the line of a file says about the adaptation."""
    if "refused" in record:
        return f": not adapted, {record['refused']}"
    if not record.get("adapted"):
        return ""
    return ": adapted" if record["share"] else ": only brightness corrected, the rain is too dense to learn"


def _comparison_sheet(before: Picture, after: Picture) -> bytes:
    """A before | after sheet as JPEG bytes."""
    from PIL import Image, ImageOps

    def half(image: Picture) -> Image.Image:
        full = replace(images.on_white(image), depth=8).to_pil()
        small = ImageOps.contain(full, (_SHEET_SIDE, _SHEET_SIDE)) if max(full.size) > _SHEET_SIDE else full
        return small.convert("RGB")

    halves = [half(before), half(after)]
    width, height = halves[0].size
    gap = max(2, width // 200)
    sheet = Image.new("RGB", (2 * width + gap, height), "white")
    sheet.paste(halves[0], (0, 0))
    sheet.paste(halves[1], (width + gap, 0))
    icc = None if after.cmyk is not None else after.icc  # the colors of a CMYK image are sRGB
    colors = replace(images.from_pil(sheet), icc=icc, color_chunks=after.color_chunks)
    return images.encode(colors, "JPEG", quality=90)
