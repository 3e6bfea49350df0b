"""ICC profiles: made from other signals of color, and pixels converted to sRGB where no profile can be kept.

Sources: ICC.1:2010 (profile format 4.3); ITU-T H.273 (code points of primaries and transfer functions); the PNG
specification, third edition, section 4.3 (which signal counts).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

from derain.errors import InputError

if TYPE_CHECKING:
    from .picture import Picture

_D65 = (0.3127, 0.3290)
_D50 = (0.9642, 1.0, 0.8249)  # XYZ, the white of every profile
_SRGB_PRIMARIES = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# White, red, green, blue by H.273's number of primaries.
_PRIMARIES = {
    1: _SRGB_PRIMARIES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_SDR_VIDEO = (1, 6, 14, 15)  # transfer functions with the curve of BT.709
_HDR = {16: "PQ", 18: "HLG"}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def space(profile: bytes) -> str:
    """The color space of the pixels that a profile describes: ``RGB``, ``GRAY``, ``CMYK``…"""
    return profile[16:20].decode("latin-1").strip()


def of_png(chunks: Mapping[bytes, bytes], *, gray: bool, name: str) -> bytes | None:
    """The profile that a PNG's chunks ``cICP``, ``sRGB``, ``gAMA`` and ``cHRM`` amount to; ``None`` for sRGB.

    Raises:
        InputError: a transfer function of HDR.
    """
    if b"cICP" in chunks:
        primaries, transfer = chunks[b"cICP"][:2]
        return of_cicp(primaries, transfer, gray=gray, name=name)
    if b"sRGB" in chunks or not chunks:
        return None
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 1e5 if b"gAMA" in chunks else 0.45455
    corners = np.array(_SRGB_PRIMARIES)
    if b"cHRM" in chunks:
        corners = np.array(struct.unpack(">8I", chunks[b"cHRM"])) / 1e5
    if np.abs(corners - _SRGB_PRIMARIES).max() < 2e-3 and 0.44 < gamma < 0.47:
        return None
    if gamma <= 0 or min(corners[1::2]) <= 0:
        return None  # nonsense; readers ignore it
    return _profile(tuple(corners), _curve(1 / gamma), gray=gray)


def of_cicp(primaries: int, transfer: int, *, gray: bool, name: str) -> bytes | None:
    """The profile of H.273's code points; ``None`` for sRGB, and for what is unspecified.

    Raises:
        InputError: a transfer function of HDR.
    """
    if transfer in _HDR:
        raise InputError(f"{name}: an HDR image ({_HDR[transfer]}); derain works on SDR, so convert it first")
    corners = _PRIMARIES.get(primaries, _SRGB_PRIMARIES)
    if transfer in _SDR_VIDEO and corners != _SRGB_PRIMARIES:
        a = 1.099296826809442
        curve = _curve(1 / 0.45, 1 / a, (a - 1) / a, 1 / 4.5, 4.5 * 0.018053968510807)
    elif transfer in (4, 5, 8):
        curve = _curve({4: 2.2, 5: 2.8, 8: 1.0}[transfer])
    elif corners == _SRGB_PRIMARIES:
        return None  # also BT.709, which is shown as sRGB everywhere
    else:
        curve = _curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return _profile(corners, curve, gray=gray)


def rgb_of_gray(profile: bytes) -> bytes | None:
    """The profile that shows equal red, green and blue as a gray profile shows gray; ``None`` if it is damaged."""
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        tags = {tag: (start, size) for tag, start, size in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count])}
        start, size = tags[b"kTRC"]
    except (struct.error, KeyError):
        return None
    return _profile(_SRGB_PRIMARIES, profile[start : start + size], gray=False)


def to_srgb(image: Picture, profile: bytes) -> Picture | None:
    """The image with its colors converted from a profile to sRGB, 8 bits; ``None`` if the profile is not valid.

    Args:
        image: gray with a profile of gray or RGB, or color with one of RGB.
        profile: ICC profile.
    """
    mode = "L" if space(profile) == "GRAY" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    opaque = replace(image, alpha=None, depth=8)
    width, height = image.size
    values = np.empty((height, width) if image.gray else (height, width, 3), np.uint8)
    for rows in opaque.strips():
        strip = Image.fromarray(opaque.integer_rows(rows).reshape(values[rows].shape))
        converted = ImageCms.applyTransform(strip.convert(mode), transform)
        values[rows] = np.asarray(converted)[..., 1] if image.gray else np.asarray(converted)
    return replace(image, values=values, depth=8, icc=None, color_chunks=())


def _curve(*parameters: float) -> bytes:
    """A ``para`` element: a power, or with five parameters g, a, b, c, d of (aX + b)^g where X ≥ d, else cX."""
    numbers = b"".join(_fixed(p) for p in parameters)
    return b"para" + struct.pack(">IHH", 0, 0 if len(parameters) == 1 else 3, 0) + numbers


def _profile(corners: tuple[float, ...], curve: bytes, *, gray: bool) -> bytes:
    """A version 4 display profile from chromaticities (x and y of white, red, green, blue) and a curve."""
    x, y = np.reshape(corners, (4, 2)).T
    white, *colors = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)
    scale = np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white))
    adapt = np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD
    tags = {
        b"desc": _text("Made by derain from the color signals of the file"),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32\0\0\0\0" + b"".join(_fixed(v) for v in adapt.ravel()),
    }
    if gray:
        tags[b"kTRC"] = curve
    else:
        matrix = np.transpose(colors)
        columns = (adapt @ (matrix * np.linalg.solve(matrix, white))).T
        tags |= {b"rXYZ": _xyz(columns[0]), b"gXYZ": _xyz(columns[1]), b"bXYZ": _xyz(columns[2])}
        tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head = struct.pack(">I4sI", start + len(body), b"\0\0\0\0", 0x04300000) + b"mntr" + (b"GRAY" if gray else b"RGB ")
    head += b"XYZ " + date + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))


def _xyz(values: object) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(v) for v in np.asarray(values, np.float64))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(encoded), 28) + encoded
