"""Check paired sets: sizes, wrong pairs, duplicates, and leaks between two sets."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from derain.data.layouts import PairedFolder
from derain.errors import DerainError

Fingerprint = npt.NDArray[np.float32]

_SIDE = 24  # of the thumbnail
_DCT = 32  # side of the thumbnail that the hash is computed from
_LOW = 8  # number of its lowest frequencies in the hash, per axis
#: Thumbnails of one scene, recompressed or resized, correlate above this; other scenes do not.
SAME_SCENE = 0.93
#: Cropped or rained-on copies: both must reach these; see ``benchmarks/near_duplicates.py``.
SAME_HASH, SIMILAR = 0.55, 0.6
_RAINTRAINH = 1800
_OVERLAP = (
    "1,800 pairs, as in the release of RainTrainH of which 546 share backgrounds with Rain100H's and Rain100L's "
    "test sets (PReNet left them out); --against the test set shows which"
)


@dataclass(frozen=True)
class Finding:
    """One fact about a set; scores on a set with ``serious`` ones cannot be trusted."""

    what: str
    detail: str
    serious: bool = True


@dataclass(frozen=True)
class CheckReport:
    """The result of :func:`check_pairs`.

    Attributes:
        pairs: number of pairs that could be read.
        sizes: number of pairs of each ``(width, height)``.
        findings: serious ones first.
    """

    pairs: int
    sizes: dict[tuple[int, int], int]
    findings: tuple[Finding, ...]


def fingerprint(image: npt.NDArray[np.uint8]) -> Fingerprint:
    """A thumbnail and a perceptual hash, by which a scene is recognized.

    Args:
        image: ``(H, W, 3)`` uint8.

    Returns:
        ``(640,)`` float32: 24×24 gray values, centered and normalized to length 1; and the signs of the 8×8
        lowest frequencies of a cosine transform without the mean, normalized likewise. Dot products of the
        parts are correlations. The thumbnail is zero for an image without contrast.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    small = small / np.float32(length) if length > 1e-3 else np.zeros_like(small)
    low = cv2.dct(cv2.resize(gray, (_DCT, _DCT), interpolation=cv2.INTER_AREA).astype(np.float32))[:_LOW, :_LOW]
    signs = np.sign(low).ravel()
    signs[0] = 0
    return np.concatenate([small, signs / np.float32(max(1.0, float(np.linalg.norm(signs))))])


def mirrored(fingerprints: Fingerprint) -> Fingerprint:
    """The fingerprints of the mirrored images, ``(N, 640)`` to ``(N, 640)``."""
    small = fingerprints[:, : _SIDE**2].reshape(-1, _SIDE, _SIDE)[:, :, ::-1].reshape(len(fingerprints), -1)
    # Mirroring flips the sign of the odd horizontal frequencies.
    hashes = fingerprints[:, _SIDE**2 :] * np.tile(np.where(np.arange(_LOW) % 2, -1, 1), _LOW).astype(np.float32)
    return np.concatenate([small, hashes], axis=1)


def same_scene(first: Fingerprint, second: Fingerprint) -> npt.NDArray[np.bool_]:
    """Which fingerprints show the same scene, ``(N, 640)`` and ``(M, 640)`` to ``(N, M)``."""
    similarity = first[:, : _SIDE**2] @ second[:, : _SIDE**2].T
    hashes = first[:, _SIDE**2 :] @ second[:, _SIDE**2 :].T
    same: npt.NDArray[np.bool_] = (similarity > SAME_SCENE) | ((similarity > SIMILAR) & (hashes > SAME_HASH))
    return same


@dataclass
class _CleanImages:
    """The clean images of a set, each file once.

    Attributes:
        names: of the files.
        fingerprints: of the images, in the same order.
        digests: names by checksum of the pixels.
        rougher: number of pairs whose clean image is brighter and rougher than the rainy one.
    """

    names: list[str]
    fingerprints: Fingerprint
    digests: dict[str, list[str]]
    rougher: int


def check_pairs(
    folder: PairedFolder, against: PairedFolder | None = None, on_step: Callable[[], None] = lambda: None
) -> CheckReport:
    """Read every pair and look for errors.

    Args:
        folder: the set.
        against: a set that must not share scenes with it, such as the test set of a training set.
        on_step: called after each pair of both sets.

    Returns:
        The report. It lists files without partner, unreadable files, sizes that differ within a pair,
        rainy images equal to their clean ones, rainy and clean images that seem to be swapped, clean
        files that are copies of each other, several clean files of one scene, the release of RainTrainH
        that overlaps its test set, and scenes shared with ``against`` (also mirrored).
    """
    serious: list[Finding] = [Finding("unpaired", problem) for problem in folder.problems]
    sizes: Counter[tuple[int, int]] = Counter()
    clean = _scan(folder, serious, sizes, on_step)
    if (pairs := sum(sizes.values())) >= 3 and clean.rougher >= 0.9 * pairs:
        detail = (
            f"in {clean.rougher} of {pairs} pairs the clean image is the brighter and rougher one; is it the rainy one?"
        )
        serious.append(Finding("swapped", detail))
    copies = [names for names in clean.digests.values() if len(names) > 1]
    serious += [Finding("copies", f"the clean files {', '.join(names)} are identical") for names in copies]
    identical = {frozenset((a, b)) for names in copies for a in names for b in names}
    notes = [
        Finding("one scene", f"{a} and {b} show the same scene{mirroring}", serious=False)
        for a, b, mirroring in _same_scenes(clean, clean)
        if a < b and frozenset((a, b)) not in identical
    ]
    if pairs == _RAINTRAINH and re.search(r"rain-?train-?h|rain-?100-?h", str(folder.root.resolve()), re.IGNORECASE):
        notes.insert(0, Finding("known overlap", _OVERLAP, serious=False))
    if against is not None:
        other = _scan(against, [], Counter(), on_step)
        serious += [
            Finding("leak", f"{a} shows the scene of {b} in {against.root}{mirroring}")
            for a, b, mirroring in _same_scenes(clean, other)
        ]
    return CheckReport(sum(sizes.values()), dict(sizes), (*serious, *notes))


def _scan(
    folder: PairedFolder, errors: list[Finding], sizes: Counter[tuple[int, int]], on_step: Callable[[], None]
) -> _CleanImages:
    digests: dict[str, list[str]] = defaultdict(list)
    seen: set[tuple[Path, str | None]] = set()
    names: list[str] = []
    prints: list[Fingerprint] = []
    rougher = 0
    for pair in folder.pairs:
        on_step()
        try:
            rainy, clean = pair.read()
        except DerainError as error:
            errors.append(Finding("unreadable", str(error)))
            continue
        sizes[rainy.shape[1], rainy.shape[0]] += 1
        if folder.truth and np.array_equal(rainy, clean):
            errors.append(Finding("no rain", f"{pair.rainy}: equals its clean image"))
        # Rain brightens and roughens an image; a clean one that is both brighter and rougher is suspect.
        rougher += clean.mean() > rainy.mean() and _roughness(clean) > _roughness(rainy)
        if (pair.clean, pair.clean_half) not in seen:
            seen.add((pair.clean, pair.clean_half))
            name = str(pair.clean.relative_to(folder.root) if pair.clean.is_relative_to(folder.root) else pair.clean)
            names.append(name)
            prints.append(fingerprint(clean))
            digests[hashlib.sha256(repr(clean.shape).encode() + clean.tobytes()).hexdigest()].append(name)
    stacked = np.stack(prints) if prints else np.zeros((0, _SIDE**2 + _LOW**2), np.float32)
    return _CleanImages(names, stacked, digests, rougher)


def _roughness(image: npt.NDArray[np.uint8]) -> float:
    """Mean absolute Laplacian of the luma."""
    return float(np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F)).mean())


def _same_scenes(first: _CleanImages, second: _CleanImages) -> Iterable[tuple[str, str, str]]:
    """All pairs of images of one scene: two names, and ``, mirrored`` or an empty string."""
    for mirroring, prints in (("", first.fingerprints), (", mirrored", mirrored(first.fingerprints))):
        for i, j in np.argwhere(same_scene(prints, second.fingerprints)):
            if first is not second or i != j:
                yield first.names[i], second.names[j], mirroring
