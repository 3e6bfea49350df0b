"""Large images: strips and tiles change nothing in the result, and memory stays within bounds."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from derain import Derainer, images, tiling
from derain.errors import InputError, OutputError
from derain.images.orientation import to_upright
from derain.models.registry import ModelInfo
from derain.server.errors import RequestRejected
from derain.server.pictures import check_header
from derain.server.settings import Settings
from support.images import SRGB, as_bytes, bomb, exif_block, sixteen_bit


@pytest.fixture(params=[7, 10_000])
def strip(request, monkeypatch) -> int:
    """Rows that are converted at a time: a few, or the full image."""
    for module in ("picture", "pil", "reading"):
        monkeypatch.setattr(f"derain.images.{module}.STRIP", request.param)
    return request.param


def sources(photo: np.ndarray) -> dict[str, bytes]:
    """A file for each conversion path; 61×43 pixels, not a multiple of a strip."""
    small = np.ascontiguousarray(photo[:43, :61])
    image = Image.fromarray(small)
    alpha = Image.fromarray(np.ascontiguousarray(photo[50:93, :61, 1]))
    rgba, gray_alpha = image.copy(), image.convert("L")
    rgba.putalpha(alpha)
    gray_alpha.putalpha(alpha)
    cmyk = np.asarray(image.convert("CMYK")).copy()
    cmyk[..., 3] = 40
    files = {
        "rgb.jpg": as_bytes(image, "JPEG"),
        "rotated.jpg": as_bytes(image, "JPEG", exif=exif_block(6), icc_profile=SRGB),
        "rotated.png": as_bytes(rgba, "PNG", exif=exif_block(7)),
        "gray.png": as_bytes(image.convert("L"), "PNG"),
        "gray-alpha.tif": as_bytes(gray_alpha, "TIFF"),
        "palette.png": as_bytes(image.quantize(64), "PNG", transparency=3),
        "bilevel.png": as_bytes(image.convert("1"), "PNG"),
        "cmyk.tif": as_bytes(Image.frombytes("CMYK", image.size, cmyk.tobytes()), "TIFF"),
        "lab.tif": as_bytes(Image.frombytes("LAB", image.size, small.tobytes()), "TIFF"),
    }
    values = sixteen_bit(small)
    values = np.concatenate([values, values[..., :1]], axis=2)
    for channels, name in ((1, "gray"), (3, "rgb"), (4, "rgba")):
        files[f"16-bit-{name}.png"] = cv2.imencode(".png", values[..., :channels])[1].tobytes()
        files[f"16-bit-{name}.tif"] = tiff(values[..., :channels].squeeze())
    return files


def tiff(values: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    kind = "minisblack" if values.ndim == 2 or values.shape[2] == 2 else "rgb"
    if values.ndim == 3 and values.shape[2] in (2, 4):
        options["extrasamples"] = ["UNASSALPHA"]
    tifffile.imwrite(file, values, **{"photometric": kind, **options})
    return file.getvalue()


def read_by_pillow(data: bytes, like: images.Picture) -> np.ndarray:
    """Upright 8-bit pixels, converted all at once."""
    image = Image.open(io.BytesIO(data))
    return to_upright(np.asarray(image.convert(like.to_pil().mode)), like.orientation)


def test_strips_change_nothing_in_reading_and_writing(photo, strip, monkeypatch, tmp_path):
    written = {}
    for name, data in sources(photo).items():
        image = images.decode(data, name=name)
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(images.read(tmp_path / name).array(), image.array(), err_msg=name)
        if image.depth == 8:
            np.testing.assert_array_equal(image.array(), read_by_pillow(data, image), err_msg=name)
        np.testing.assert_array_equal(np.asarray(image.to_pil()), array_of_to_pil(image), err_msg=name)
        for kind in ("JPEG", "PNG", "TIFF"):
            written[name, kind] = images.encode(image, kind)
    if strip == 7:
        monkeypatch.setattr("derain.images.picture.STRIP", 10_000)
        for (name, kind), data in written.items():
            unstripped = images.encode(images.decode(sources(photo)[name]), kind)
            if kind == "PNG" and data[24] == 16:  # strips are in chunks of their own
                np.testing.assert_array_equal(images.decode(data).array(), images.decode(unstripped).array())
            else:
                assert data == unstripped, (name, kind)


def array_of_to_pil(image: images.Picture) -> np.ndarray:
    gray_16_bit = image.depth == 16 and image.gray and image.alpha is None
    return (image if gray_16_bit else dataclasses.replace(image, depth=8)).array()


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("name", ["rgb", "gray", "rgba", "16-bit", "16-bit-gray", "16-bit-rgba"])
def test_tiles_of_integers_equal_the_blend_of_a_float_image(small_weight, photo, name, orientation):
    """Byte for byte the same as blending in float32 and converting at the end."""
    odd = photo[:187, :271]
    values = {
        "rgb": odd,
        "gray": odd[..., 1],
        "rgba": np.concatenate([odd, odd[..., :1]], axis=2),
        "16-bit": sixteen_bit(odd),
        "16-bit-gray": sixteen_bit(odd)[..., 1],
        "16-bit-rgba": sixteen_bit(np.concatenate([odd, odd[..., :1]], axis=2)),
    }[name]
    exif = exif_block(orientation)
    data = as_bytes(Image.fromarray(values), "PNG", exif=exif) if values.dtype == np.uint8 else tiff(values)
    if values.dtype == np.uint16 and orientation != 1:
        data = tiff(values, extratags=[(0x0112, 3, 1, orientation, True)])
    image = images.decode(data)
    assert (image.depth, image.orientation, image.values.dtype) == (
        8 * values.itemsize,
        orientation,
        values.dtype,
    )
    derainer = Derainer(small_weight, tile=192, precision="fp32")
    rule = derainer.info.size
    blended = tiling.run_tiled(
        lambda tile: rule.crop(derainer.runtime(rule.pad(tile)[None])[0], tile),
        np.ascontiguousarray(image.pixels.transpose(2, 0, 1)),
        tile=192,
        overlap=derainer.info.overlap,
        align=16,
    ).transpose(1, 2, 0)
    expected = image.with_pixels(np.clip(blended, 0, 1)).array()
    derained = derainer(image)
    np.testing.assert_array_equal(derained.array(), expected)
    assert np.abs(expected.astype(int) - image.array()).max() > 3
    assert images.encode(derained, "TIFF") == images.encode(image.with_pixels(np.clip(blended, 0, 1)), "TIFF")


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_panorama_is_processed_along_its_longer_side(small_weight, photo, kind):
    wide = np.ascontiguousarray(np.tile(photo[:90], (1, 2, 1)))
    wide = wide if kind == np.uint8 else (wide / 255).astype(np.float32)
    untiled = Derainer(small_weight, tile="off", precision="fp32")(wide)
    tiled = Derainer(small_weight, tile=192, precision="fp32")(wide)
    bound = 1 if kind == np.uint8 else 1 / 255
    assert np.abs(tiled.astype(np.float64) - untiled).max() <= bound


def test_batches_of_tiles_are_as_exact(small_weight, photo):
    expected = Derainer(small_weight, tile=192, precision="fp32")(photo)
    calls, runtime = [], Derainer(small_weight, precision="fp32").runtime

    class Spy:
        name, precision, info = runtime.name, runtime.precision, runtime.info
        device = "cuda"  # tiles are batched on CUDA only

        def __call__(self, batch: np.ndarray) -> np.ndarray:
            calls.append(len(batch))
            return runtime(batch)

    batched = Derainer(small_weight, runtime=Spy(), tile=192)
    assert np.abs(batched(photo).astype(int) - expected).max() <= 1
    assert max(calls) == -(-(300 - 192) // 96) + 1, "a full row of tiles"


class Root:
    """A runtime that only brightens, to measure everything except the network."""

    name, device, precision = "root", "cpu", "fp32"

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return np.sqrt(batch)


@pytest.mark.parametrize("size", [(1600, 1200), (6000, 320)])
def test_only_one_row_of_tiles_is_float(small_weight, size):
    derainer = Derainer(small_weight, runtime=Root(Derainer(small_weight).info), tile=192)
    image = images.Picture(np.zeros((size[1], size[0], 3), np.uint8))
    tracemalloc.start()
    try:
        derainer(image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    across = min(size) if size[0] > 2 * size[1] else size[0]
    row, tile = 192 * across * 12, 192 * 192 * 12
    assert peak < image.values.nbytes + 1.6 * row + 12 * tile
    assert peak < 3 * image.values.nbytes, "a float32 copy alone takes four times as much"


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 32)},
        {"tile": (16, 32), "compression": "zlib"},
        {"byteorder": ">"},
        {"byteorder": ">", "compression": "zlib", "rowsperstrip": 5},
        {"planarconfig": "separate"},
        {"bigtiff": True},
    ],
)
def test_16_bit_tiffs_of_every_layout_are_exact(photo, options):
    values = sixteen_bit(photo[:43, :61])
    if options.get("planarconfig") == "separate":
        data = tiff(np.ascontiguousarray(values.transpose(2, 0, 1)), **options)
    else:
        data = tiff(values, **options)
    image = images.decode(data)
    assert image.depth == 16
    np.testing.assert_array_equal(image.array(), values)


def test_lzw_16_bit_tiffs_are_exact(photo, tmp_path):
    values = sixteen_bit(photo[:43, :61])
    data = cv2.imencode(".tif", values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].compression == 5
    np.testing.assert_array_equal(images.decode(data).array(), values)
    (tmp_path / "ü.tif").write_bytes(data)
    np.testing.assert_array_equal(images.read(tmp_path / "ü.tif").array(), values)


def test_16_bit_gray_with_alpha_keeps_both(photo):
    values = sixteen_bit(photo[:43, :61])[..., :2]
    image = images.decode(tiff(values))
    assert (image.gray, image.depth) == (True, 16)
    np.testing.assert_array_equal(image.array(), values)
    data = images.encode(image, "PNG")
    assert data[25] == 4, "gray with alpha"
    again = images.decode(data)
    assert again.gray
    np.testing.assert_array_equal(again.array(), values)


def test_a_damaged_16_bit_png_is_rejected_and_late_exif_is_found(photo):
    image = images.Picture(sixteen_bit(photo[:43, :61]), depth=16, exif=exif_block(3))
    data = images.encode(image, "PNG")
    start = data.index(b"eXIf") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    late = data[:start] + data[start + length : -12] + data[start : start + length] + data[-12:]
    found = images.decode(late)
    assert found.orientation == 3
    assert found.exif == image.exif
    place = data.index(b"IDAT") + 100
    with pytest.raises(InputError, match="checksum"):
        images.decode(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    for end in (len(data) // 2, len(data) - 12, len(data) - 5):
        with pytest.raises(InputError, match="unexpected end"):
            images.decode(data[:end])


def test_100_megapixels_are_accepted_by_the_command_but_not_by_the_server():
    hundred = bomb(10_000, 10_000)
    with pytest.raises(InputError, match="damaged"):  # decoded, and found to consist of a header only
        images.decode(hundred, max_pixels=images.MAX_PIXELS)
    with pytest.raises(RequestRejected, match="megapixels") as error:
        check_header(hundred, max_pixels=Settings().max_pixels)
    assert error.value.status == 413


@pytest.mark.parametrize(("kind", "side"), [("JPEG", 65_501), ("WEBP", 16_384)])
def test_images_that_are_too_large_for_a_format_are_rejected(kind, side):
    with pytest.raises(OutputError, match=f"{side}.*\\.png"):
        images.encode(images.Picture(np.zeros((1, side), np.uint8), gray=True), kind)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "exif.tif", "a.webp", "a.bmp", "16-bit.png", "16-bit.tif"])
def test_a_disk_that_fills_up_midway_leaves_nothing_behind(photo, tmp_path, name):
    values, exif = sixteen_bit(photo) if "16-bit" in name else photo, exif_block(1) if "exif" in name else None
    image = images.Picture(values, depth=8 * values.itemsize, exif=exif)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            image.save(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


_MEASURE = """
import resource, sys
from derain.cli.main import main
if sys.argv[1] == "root":  # everything except the network
    import numpy as np
    from derain.runtime.torch import TorchRuntime
    TorchRuntime.__call__ = lambda self, batch: np.sqrt(batch)
sys.argv = ["derain", "run", sys.argv[2], "-o", sys.argv[3], "-q"]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_of_run(network: str, source: Path, output: Path) -> int:
    """Peak memory of ``derain run``, bytes."""
    words = [sys.executable, "-c", _MEASURE, network, str(source), str(output)]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(run.stdout) * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux only")
def test_a_24_megapixel_photograph_stays_within_one_and_a_half_gb(tmp_path: Path):
    photo = Image.fromarray(skimage.data.astronaut()).resize((6000, 4000))
    photo.save(tmp_path / "big.jpg", quality=90)
    assert peak_of_run("default", tmp_path / "big.jpg", tmp_path / "out.jpg") < 1.5e9
    out = Image.open(tmp_path / "out.jpg")
    assert out.size == (6000, 4000)
    # No seams: rows and columns where tiles meet change no more than others.
    difference = np.asarray(out.convert("L")).astype(np.float32) - np.asarray(photo.convert("L"))
    for axis in (0, 1):
        steps = np.abs(np.diff(difference.mean(axis=1 - axis)))
        assert steps.max() < 8 * np.median(steps) + 0.5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux only")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "16-bit.png", "16-bit.tif"])
def test_100_megapixels_stay_within_2_gb(tmp_path: Path, name: str):
    """Everything except the network, whose tile needs about 0.23 GB more; so the bound here is 1.75 GB."""
    photo = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((2000, 2000)))
    values = np.tile(sixteen_bit(photo) if "16-bit" in name else photo, (5, 5, 1))
    images.Picture(values, depth=8 * values.itemsize).save(tmp_path / name)
    assert peak_of_run("root", tmp_path / name, tmp_path / f"out-{name}") < 1.75e9
    out = images.read(tmp_path / f"out-{name}")
    corner = np.sqrt(values[:50, :50] / np.iinfo(values.dtype).max) * np.iinfo(values.dtype).max
    assert out.values.dtype == values.dtype
    assert np.abs(out.values[:50, :50] - corner).mean() < (3 if name == "a.jpg" else 0.6)
