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
from derain.files import write_bytes
from derain.images import Picture

from .console import ProgressBar, Report
from .inputs import Source, Work
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

        images.format_for(path)  # an unsupported suffix is reported before the work is done
        before = images.read(source.path)
        after = derain_image(derainer, before, options, record, on_tile)
        after.save(path, quality=options.quality, overwrite=options.overwrite)
        if options.clip.compare:
            sheet = path.with_name(f"{path.stem}_compare.jpg")
            write_bytes(_comparison_sheet(before, after), sheet, overwrite=options.overwrite)
            record["compare"] = str(sheet)
        report_image(report, options, before, time.perf_counter() - start, str(path), record)


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
    """Report a finished file, with megapixels per second from file to file."""
    width, height = image.size
    rate = width * height / seconds / 1e6
    details = f"{seconds:.1f} s" + (f", {width}×{height}, {rate:.3g} megapixels/s" if options.verbose else "")
    record.update(output=where, seconds=round(seconds, 3), size=[width, height], model=options.model)
    record["megapixels_per_second"] = float(f"{rate:.3g}")
    report.succeed(f"{record['input']} → {where} ({details})" + _adaptation(record), **record)


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
        full = replace(image, depth=8, alpha=None).to_pil()
        small = ImageOps.contain(full, (_SHEET_SIDE, _SHEET_SIDE)) if max(full.size) > _SHEET_SIDE else full
        return small.convert("RGB")

    halves = [half(before), half(after)]
    width, height = halves[0].size
    gap = max(2, width // 200)
    sheet = Image.new("RGB", (2 * width + gap, height), "white")
    sheet.paste(halves[0], (0, 0))
    sheet.paste(halves[1], (width + gap, 0))
    return images.encode(images.from_pil(sheet), "JPEG", quality=90)
