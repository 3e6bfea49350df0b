"""Derainer: every kind of image in, the same kind out; tiles; threads."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from derain import Derainer, create_model
from derain.errors import DeviceError, InputError, ModelError
from derain.images import Picture
from derain.runtime.torch import TorchRuntime
from derain.weights import save_file


@pytest.fixture(scope="module")
def derainer(small_weight: Path) -> Derainer:
    return Derainer(small_weight, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def derained(derainer, photo) -> np.ndarray:
    return derainer(photo)


def test_numpy_uint8(derained, photo):
    assert derained.shape == photo.shape
    assert derained.dtype == np.uint8
    assert np.abs(derained.astype(int) - photo).max() > 3, "the test's network must change the image"


def test_the_output_is_the_networks(derainer, derained, photo):
    planes = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    padded = torch.nn.functional.pad(planes, (0, 4, 0, 8), mode="reflect")
    with torch.inference_mode():
        expected = derainer.runtime.network(padded)[0, :, :200, :300].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(derained - expected * 255).max() < 0.51


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_numpy_float(derainer, derained, photo, dtype):
    out = derainer((photo / 255).astype(dtype))
    assert out.dtype == dtype
    assert 0 <= out.min() <= out.max() <= 1
    # float16 itself is off by up to an eighth of 1/255, which this untrained network magnifies.
    np.testing.assert_allclose(out.astype(np.float64) * 255, derained, atol=1.5 if dtype == np.float16 else 0.51)


def test_numpy_uint16(derainer, derained, photo):
    out = derainer(photo.astype(np.uint16) * 257)
    assert out.dtype == np.uint16
    np.testing.assert_allclose(out / 257, derained, atol=0.6)
    assert len(np.unique(out)) > 256, "16 bits must stay 16 bits"


def test_numpy_channels_and_batches(derainer, derained, photo):
    alpha = photo[..., :1]
    rgba = derainer(np.concatenate([photo, alpha], axis=2))
    np.testing.assert_array_equal(rgba[..., :3], derained)
    np.testing.assert_array_equal(rgba[..., 3:], alpha)
    gray = photo[..., 1]
    assert derainer(gray).shape == gray.shape
    np.testing.assert_array_equal(derainer(gray[..., None])[..., 0], derainer(gray))
    np.testing.assert_array_equal(derainer(np.stack([photo, photo[::-1]]))[0], derained)
    assert [a.shape for a in derainer([photo, gray])] == [photo.shape, gray.shape]


def test_views_and_other_memory_orders_are_fine(derainer, photo):
    flipped = photo[::-1, ::-1]
    np.testing.assert_array_equal(derainer(flipped), derainer(flipped.copy()))
    np.testing.assert_array_equal(derainer(np.asfortranarray(photo)), derainer(photo))


def test_torch_tensors(derainer, derained, photo):
    chw = torch.from_numpy(photo).permute(2, 0, 1)
    np.testing.assert_array_equal(derainer(chw).permute(1, 2, 0).numpy(), derained)
    batch = torch.stack([chw, chw.flip(1)]).float() / 255
    out = derainer(batch)
    assert out.shape == batch.shape
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out[0].permute(1, 2, 0).numpy() * 255, derained, atol=0.51)
    assert derainer(batch.bfloat16()).dtype == torch.bfloat16
    assert derainer(batch[:, :1]).shape == batch[:, :1].shape


def test_pil_images_keep_mode_and_metadata(derainer, derained, photo):
    image = Image.fromarray(photo)
    image.info["icc_profile"] = b"profile"
    out = derainer(image)
    np.testing.assert_array_equal(np.asarray(out), derained)
    assert out.info["icc_profile"] == b"profile"
    for mode in ("L", "LA", "RGBA", "CMYK"):
        assert derainer(image.convert(mode)).mode == mode
    deep = Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
    assert derainer(deep).mode == deep.mode


def test_a_turned_pil_image_is_derained_upright(derainer, photo):
    image = Image.fromarray(np.ascontiguousarray(np.rot90(photo)))
    exif = image.getexif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    out = derainer(image)
    assert out.size == image.size
    np.testing.assert_array_equal(np.rot90(np.asarray(out), -1), derainer(photo))


def test_paths_give_pictures(derainer, derained, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        out = derainer(path)
        assert isinstance(out, Picture)
        np.testing.assert_array_equal(np.asarray(out), derained)
    out.save(tmp_path / "b.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), derained)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (5, 33), (17, 16)])
def test_tiny_images(derainer, size):
    image = np.full((*size, 3), 90, np.uint8)
    assert derainer(image).shape == image.shape


@pytest.mark.parametrize(("name", "settings"), [("jdnet", {"units": 1}), ("sginet", {"width": 2})])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 31), (67, 41)])
def test_networks_with_size_rules_take_any_image(name, settings, size, tmp_path):
    save_file(create_model(name, **settings), tmp_path / "x.safetensors", model=name, settings=settings)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert Derainer(tmp_path / "x.safetensors")(image).shape == image.shape


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((4, 4, 5), np.uint8), "shape"),
        (np.zeros((4, 4, 0), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((0, 0), np.uint16), "no pixels"),
        (np.zeros((2, 0, 0, 3), np.float32), "no pixels"),
        (torch.zeros(3, 0, 0), "no pixels"),
        (torch.zeros(2, 1, 5, 0), "no pixels"),
        (Image.new("RGB", (0, 0)), "no pixels"),
        (Image.new("RGBA", (3, 0)), "no pixels"),
        (Image.new("CMYK", (0, 5)), "no pixels"),
        (Image.new("I;16", (0, 0)), "no pixels"),
        (Picture(np.zeros((0, 0, 3), np.uint8)), "no pixels"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.full((4, 4, 3), np.nan, np.float32), "NaN"),
        (np.full((4, 4, 3), 200.0, np.float32), r"\[0, 1\]"),
        (torch.zeros(2, 4, 4), "shape"),
        (object(), "object"),
        ("no-such-file.jpg", "no such file"),
    ],
)
def test_bad_input_is_rejected(derainer, bad, words):
    with pytest.raises(InputError, match=words):
        derainer(bad)


def test_bad_settings_are_rejected(small_weight, tmp_path):
    with pytest.raises(ModelError, match="unknown model"):
        Derainer("no-such-model")
    with pytest.raises(ModelError, match="no such checkpoint"):
        Derainer(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="safetensors"):
        Derainer(tmp_path / "bad.safetensors")
    with pytest.raises(DeviceError, match="unknown device"):
        Derainer(small_weight, device="abacus")
    with pytest.raises(DeviceError, match="precision"):
        Derainer(small_weight, precision="fp4")
    with pytest.raises(InputError, match="too small"):
        Derainer(small_weight, tile=8)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="not available"):
            Derainer(small_weight, device="cuda")


def test_calls_are_thread_safe(derainer, derained, photo):
    with ThreadPoolExecutor(4) as pool:
        for out in pool.map(derainer, [photo] * 8):
            np.testing.assert_array_equal(out, derained)


def test_bf16_stays_close_to_fp32(small_weight, derained, photo):
    out = Derainer(small_weight, device="cpu", precision="bf16")(photo[:64, :64])
    reference = Derainer(small_weight, device="cpu", precision="fp32")(photo[:64, :64])
    assert np.abs(out.astype(int) - reference).mean() < 1
    assert TorchRuntime(create_model("gated-unet"), "cpu", "bf16").precision == "bf16"


def test_a_runtime_object_executes_the_network(small_weight, derained, photo):
    class Counting:
        """Passes every batch on and counts."""

        def __init__(self, inner):
            self.inner, self.batches = inner, 0
            self.name, self.info, self.device, self.precision = "counting", inner.info, inner.device, inner.precision

        def __call__(self, batch):
            self.batches += 1
            return self.inner(batch)

    plain = Derainer(small_weight, device="cpu", precision="fp32")
    runtime = Counting(plain.runtime)
    derainer = Derainer(small_weight, runtime=runtime)
    np.testing.assert_array_equal(derainer(photo), derained)
    assert runtime.batches == 1
    assert derainer.file == plain.file
    assert derainer.fingerprint != plain.fingerprint


def test_the_fingerprint_changes_with_what_changes_results(small_weight, tmp_path):
    other = tmp_path / "other.safetensors"
    settings = {"channels": [8, 16], "blocks": [1, 1]}
    save_file(create_model("gated-unet", **settings), other, model="gated-unet", settings=settings)
    forms = [{}, {"tile": 192}, {"ensemble": 2}, {"precision": "bf16"}]
    fingerprints = [Derainer(small_weight, **{"precision": "fp32", **form}).fingerprint for form in forms]
    fingerprints.append(Derainer(other, precision="fp32").fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)
    assert Derainer(small_weight, precision="fp32").fingerprint == fingerprints[0]


@pytest.mark.parametrize("kind", ["u2", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", ["gray", "color", "batch"])
def test_both_byte_orders_give_the_same_values(derainer, photo, kind, shape):
    image = photo[:40, :50, 0] if shape == "gray" else photo[:40, :50]
    values = image.astype(np.uint16) * np.uint16(257) if kind == "u2" else image / 255
    values = np.stack([values, values[::-1]]) if shape == "batch" else values
    little, big = values.astype(f"<{kind}"), values.astype(f">{kind}")
    result = derainer(big)
    assert result.dtype == big.dtype
    np.testing.assert_array_equal(result, derainer(little))
    np.testing.assert_array_equal(derainer(big, strength=0.5), derainer(little, strength=0.5))


def test_a_picture_of_the_other_byte_order_is_the_same(derainer, photo):
    values = photo[:40, :50].astype(np.uint16) * np.uint16(257)
    little, big = (Picture(values.astype(order), depth=16, format="PNG") for order in ("<u2", ">u2"))
    np.testing.assert_array_equal(big.array(), values)
    np.testing.assert_array_equal(derainer(big).array(), derainer(little).array())


def test_torch_devices_are_devices(small_weight, derained, photo):
    for device in (torch.device("cpu"), torch.device("cpu", 0), "cpu:0"):
        derainer = Derainer(small_weight, device=device, precision="fp32")
        assert derainer.runtime.device == "cpu"
        np.testing.assert_array_equal(derainer(photo), derained)
    with pytest.raises(DeviceError, match="unknown device 'meta'"):
        Derainer(small_weight, device=torch.device("meta"))
    with pytest.raises(DeviceError, match="does not run on device 'mps'"):
        Derainer(small_weight, device=torch.device("mps"), runtime="onnx")


# --- in other processes ---------------------------------------------------------------------------


def test_a_pickled_derainer_is_its_file_and_arguments(small_weight, photo, monkeypatch):
    monkeypatch.chdir(small_weight.parent)
    derainer = Derainer(small_weight.name, device=torch.device("cpu"), precision="fp32", tile=192, ensemble=2)
    fingerprint = derainer.fingerprint
    data = pickle.dumps(derainer)
    assert len(data) < 1000, "the network itself must not be in it"
    monkeypatch.chdir("/")
    for again in (pickle.loads(data), copy.deepcopy(derainer)):
        assert (again.tile, again.ensemble, again.runtime.device) == (192, 2, "cpu")
        assert again.fingerprint == fingerprint
        np.testing.assert_array_equal(again(photo), derainer(photo))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_derainer_of_another_runtime_can_be_pickled(small_weight, photo, runtime, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime))
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path))
    derainer = Derainer(small_weight, runtime=runtime)
    for named in (derainer, Derainer(derainer.file, runtime=runtime)):
        again = pickle.loads(pickle.dumps(named))
        assert again.runtime.name == runtime
        np.testing.assert_array_equal(again(photo), derainer(photo))
    bare = pickle.loads(pickle.dumps(derainer.runtime))
    np.testing.assert_array_equal(Derainer(small_weight, runtime=bare)(photo), derainer(photo))


def test_a_derainer_with_a_network_of_its_own_is_pickled_with_it(small_weight, photo):
    """An adapted network is in no file."""
    torch.manual_seed(3)
    network = create_model("gated-unet", channels=[8, 16], blocks=[1, 1])
    torch.nn.init.normal_(network.head.weight, std=0.05)
    derainer = Derainer(small_weight, runtime=TorchRuntime(network, "cpu", "fp32"))
    again = pickle.loads(pickle.dumps(derainer))
    np.testing.assert_array_equal(again(photo), derainer(photo))
    assert np.abs(again(photo).astype(int) - Derainer(small_weight)(photo)).max() > 3


_POOL = """
import sys
if __name__ == "__main__":
    import multiprocessing
    import numpy as np
    import torch
    from torch import *
    from derain import Derainer

    torch.set_num_threads(1)
    derainer = Derainer(sys.argv[1], device=torch.device("cpu"), precision="fp32", runtime=sys.argv[2])
    image = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for result in pool.map(derainer, [image, image[::-1]]):
            print(np.array_equal(result, derainer(image)), np.array_equal(result, derainer(image[::-1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_spawn_pool_derains_with_torch_imported_under_main(small_weight, runtime, tmp_path):
    """``from torch import *`` too: pickle then looks for torch's constants in ``__main__``, which the pool lacks."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "script.py").write_text(_POOL)
    words = [sys.executable, tmp_path / "script.py", small_weight, runtime]
    environment = {**os.environ, "DERAIN_HOME": str(tmp_path / "home")}
    run = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120, env=environment)
    assert run.stdout.split() == ["True", "False", "False", "True"], run.stderr
