"""The nodes' decoder gives the same pictures with cv_bridge, without it, and beside a broken one."""

import sys

import numpy as np
import pytest
from support.pictures import CompressedImage, Image, message_of, picture_for, tolerance_of

from maskact_ros.core.images import ENCODINGS, ImageError, rgb_from_message
from maskact_ros.nodes.observation import image_decoder
from maskact_ros.nodes.observation.image_decoder import ImageDecoder

# A stand-in for cv_bridge, as the distributions ship it: right where rows are not padded and bytes are native.
RIGHT = """
import cv2, numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        assert desired_encoding == "rgb8"
        if message.encoding not in ("rgb8", "bgr8"):
            raise TypeError("unknown encoding")
        picture = np.ndarray((message.height, message.width, 3), np.uint8, message.data)
        return picture if message.encoding == "rgb8" else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
"""
SWAPPED = RIGHT.replace('return picture if message.encoding == "rgb8" else', "return")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a module of the given source in cv_bridge's place, for this process and its children."""

    def put(source):
        (tmp_path / "cv_bridge.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)

    yield put
    sys.modules.pop("cv_bridge", None)


@pytest.fixture(scope="module")
def decoder():
    """Whatever this machine has."""
    return ImageDecoder()


@pytest.fixture(params=["as installed", "stand-in"])
def either_decoder(request, decoder):
    if request.param == "as installed":
        return decoder
    request.getfixturevalue("install")(RIGHT)
    return ImageDecoder()


def test_every_encoding_gives_the_picture_back_whoever_decodes(either_decoder):
    for encoding in ENCODINGS:
        picture = picture_for(encoding)
        for padding in (0, 13):
            for big_endian in (False, True):
                message = message_of(picture, encoding, padding=padding, big_endian=big_endian)
                rgb = either_decoder(message)
                assert (rgb.shape, rgb.dtype, rgb.flags.c_contiguous) == (picture.shape, np.uint8, True), encoding
                assert np.abs(rgb.astype(int) - picture).max() <= tolerance_of(encoding), encoding
                assert np.array_equal(rgb, rgb_from_message(message)), encoding


def test_agreeing_encodings_go_through_cv_bridge_and_the_others_are_named(install):
    install(RIGHT)
    decoder = ImageDecoder()
    assert decoder.reason.startswith("images are decoded by cv_bridge: rgb8, bgr8; ")
    assert decoder.reason.endswith("; of all other encodings by OpenCV, as the two differ there")
    assert "8UC3" not in decoder.reason
    sys.modules["cv_bridge"].CvBridge.imgmsg_to_cv2 = lambda *_: "by cv_bridge"
    assert decoder(message_of(picture_for("bgr8"), "bgr8")) == "by cv_bridge"
    assert isinstance(decoder(message_of(picture_for("mono8"), "mono8")), np.ndarray)


def test_encoding_that_cv_bridge_shows_otherwise_is_not_left_to_it(install):
    install(SWAPPED)
    decoder = ImageDecoder()
    assert "rgb8" not in decoder.reason
    picture = picture_for("rgb8")
    assert np.array_equal(decoder(message_of(picture, "rgb8")), picture)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ImportError('numpy.core.multiarray failed to import')", "numpy.core.multiarray failed to import"),
        ("raise AttributeError('_ARRAY_API not found')", "_ARRAY_API not found"),
        ("class CvBridge:\n    def __init__(self): raise RuntimeError('no boost')", "no boost"),
        ("", "cannot import name 'CvBridge'"),
        ("import os; os.abort()", "exit code -6"),
        ("raise SystemExit(0)", "exit code 0"),
        ("class CvBridge:\n    pass", "another picture, or none, of every encoding"),
        ("import threading; threading.Event().wait()", "within 1 s"),
    ],
)
def test_broken_cv_bridge_is_said_and_does_without(source, said, install, monkeypatch):
    install(source)
    if "within" in said:
        monkeypatch.setattr(image_decoder, "CHECK_TIMEOUT_S", 1.0)
    decoder = ImageDecoder()
    assert decoder.reason.startswith("images are decoded by OpenCV: cv_bridge ")
    assert said in decoder.reason
    assert "\n" not in decoder.reason
    picture = picture_for("bgr8")
    assert np.array_equal(decoder(message_of(picture, "bgr8")), picture)


def test_cv_bridge_that_fails_in_this_process_only_is_done_without(install, monkeypatch):
    install(RIGHT)
    monkeypatch.setattr(image_decoder, "_new_bridge", lambda: 1 / 0)
    decoder = ImageDecoder()
    assert "fails to load (division by zero)" in decoder.reason
    picture = picture_for("bgr8")
    assert np.array_equal(decoder(message_of(picture, "bgr8")), picture)


def test_missing_cv_bridge_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert ImageDecoder().reason == "images are decoded by OpenCV: cv_bridge is not installed"


def test_bad_messages_are_image_errors_through_cv_bridge_too(either_decoder):
    for message in (
        Image(4, 4, "rgb8", 0, 12, bytes(47)),
        Image(4, 4, "bgr8", 0, 11, bytes(48)),
        Image(0, 4, "rgb8", 0, 12, b""),
        Image(4, 4, "32FC1", 0, 16, bytes(64)),
        CompressedImage("jpeg", b"no picture"),
    ):
        with pytest.raises(ImageError):
            either_decoder(message)
