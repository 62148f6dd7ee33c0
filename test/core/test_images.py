"""Image messages of every encoding become the picture that the camera saw; anything else is refused in a sentence."""

import array
import random
import zlib

import cv2
import numpy as np
import pytest
from support.pictures import HEIGHT, WIDTH, CompressedImage, Image, message_of, picture_for, tolerance_of

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.images import ENCODINGS, ImageError, mask_from_message, rgb_from_file, rgb_from_message


def assert_shows(rgb, picture, encoding):
    assert (rgb.shape, rgb.dtype, rgb.flags.c_contiguous) == (picture.shape, np.uint8, True)
    assert np.abs(rgb.astype(int) - picture).max() <= tolerance_of(encoding)


def compressed(extension, picture_bgr, text):
    return CompressedImage(text, cv2.imencode(extension, picture_bgr)[1].tobytes())


@pytest.mark.parametrize("padding", [0, 2, 13])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_picture_back(encoding, big_endian, padding):
    picture = picture_for(encoding)
    assert_shows(
        rgb_from_message(message_of(picture, encoding, padding=padding, big_endian=big_endian)), picture, encoding
    )


@pytest.mark.parametrize("container", [bytes, bytearray, lambda data: array.array("B", data), np.frombuffer])
def test_data_may_come_in_any_buffer(container):
    picture = picture_for("bgr8")
    message = message_of(picture, "bgr8")
    message.data = container(message.data, np.uint8) if container is np.frombuffer else container(message.data)
    assert np.array_equal(rgb_from_message(message), picture)


def test_messages_of_ros_are_read():
    messages = pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")
    picture = picture_for("rgb8")
    image = messages.Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=WIDTH * 3)
    image.data = array.array("B", picture.tobytes())
    assert np.array_equal(rgb_from_message(image), picture)
    jpeg = messages.CompressedImage(format="png")
    jpeg.data = array.array("B", cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    assert np.array_equal(rgb_from_message(jpeg), picture)


def test_unpadded_rgb8_is_a_view_on_the_message():
    message = message_of(picture_for("rgb8"), "rgb8")
    assert np.shares_memory(rgb_from_message(message), np.frombuffer(message.data, np.uint8))


def test_sixteen_bits_become_eight_by_a_rule_that_ignores_the_other_pixels():
    values = np.arange(65536, dtype="<u2").reshape(256, 256)
    expected = (values.astype(int) + 128) // 257
    whole = rgb_from_message(Image(256, 256, "mono16", 0, 512, values.tobytes()))
    dark = rgb_from_message(Image(1, 256, "mono16", 0, 512, values[:1].tobytes()))
    assert np.array_equal(whole, np.dstack([expected] * 3))
    assert np.array_equal(dark, whole[:1])


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.startswith("bayer")])
def test_bayer_keeps_each_sample_in_its_own_channel(encoding):
    picture = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    rgb = rgb_from_message(message_of(picture, encoding))
    for site, channel in enumerate(encoding[6:10]):
        row, column = divmod(site, 2)
        inner = np.s_[2 + row : -2 : 2, 2 + column : -2 : 2, "rgb".index(channel)]
        assert np.array_equal(rgb[inner], picture[inner])


@pytest.mark.parametrize(
    ("yuv", "rgb"),
    [((16, 128, 128), (0, 0, 0)), ((235, 128, 128), (255, 255, 255)), ((81, 90, 240), (255, 0, 0))],
)
def test_yuv_is_bt601_in_limited_range(yuv, rgb):
    y, u, v = yuv
    shown = rgb_from_message(Image(2, 2, "yuyv", 0, 4, bytes([y, u, y, v] * 2)))
    assert np.abs(shown.astype(int) - rgb).max() <= 1


@pytest.mark.parametrize("text", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8"])
def test_jpeg_shows_the_picture(text):
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), (0, 0), 8)
    rgb = rgb_from_message(compressed(".jpg", picture[..., ::-1], text))
    assert rgb.shape == picture.shape
    assert np.abs(rgb.astype(int) - picture).mean() < 3
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize("text", ["png", "rgb8; png compressed bgr8"])
def test_png_shows_the_very_picture(text):
    picture = picture_for("rgb8")
    assert np.array_equal(rgb_from_message(compressed(".png", picture[..., ::-1], text)), picture)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_compressed_grey_becomes_rgb(extension):
    rgb = rgb_from_message(compressed(extension, np.full((20, 30), 77, np.uint8), "mono8; compressed"))
    assert rgb.shape == (20, 30, 3)
    assert (rgb == 77).all()


def test_sixteen_bit_png_follows_the_rule_of_mono16():
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    rgb = rgb_from_message(compressed(".png", values, "mono16; png compressed "))
    assert np.array_equal(rgb[..., 0], (values.astype(int) + 128) // 257)


def test_exif_does_not_turn_the_picture():
    jpeg = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    orientation_6 = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"  # a quarter turn
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01" + orientation_6 + b"\x00\x00\x00\x00"
    tagged = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_COLOR).shape == (30, 20, 3)  # the tag is real
    assert rgb_from_message(CompressedImage("jpeg", tagged)).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoding": "32FC1"}, ["'32FC1'", "rgb8", "nv12"]),
        ({"encoding": "16UC1"}, ["'16UC1'", "mono16"]),
        ({"encoding": ""}, ["''", "rgb8"]),
        ({"height": 0}, ["16x0", "at least 1x1"]),
        ({"width": 0}, ["0x12", "at least 1x1"]),
        ({"step": 47}, ["step is 47", "16x12 in rgb8", "at least 48"]),
        ({"step": 0}, ["step is 0", "at least 48"]),
        ({"step": 49}, ["576 bytes", "step of 49", "at least 588"]),
        ({"data": b""}, ["0 bytes", "at least 576"]),
        ({"data": bytes(575)}, ["575 bytes", "at least 576"]),
        ({"height": 2**32 - 1}, ["576 bytes", "at least"]),
        ({"encoding": "yuv422", "width": 15}, ["15x12 in yuv422", "multiples of 2x1"]),
        ({"encoding": "nv12", "width": 15}, ["15x12 in nv12", "multiples of 2x2"]),
        ({"encoding": "nv12", "height": 11}, ["16x11 in nv12", "multiples of 2x2"]),
        ({"encoding": "bayer_rggb8", "height": 2}, ["16x2 in bayer_rggb8", "at least 3x3"]),
    ],
)
def test_bad_image_is_one_sentence_with_value_and_what_is_allowed(change, named):
    message = message_of(picture_for("rgb8"), "rgb8")
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(ImageError) as caught:
        rgb_from_message(message)
    assert isinstance(caught.value, MaskACTError)
    assert all(word in str(caught.value) for word in named)
    assert "\n" not in str(caught.value)


JPEG = cv2.imencode(".jpg", picture_for("bgr8"))[1].tobytes()
PNG = cv2.imencode(".png", picture_for("bgr8"))[1].tobytes()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "0 bytes"),
        (b"no picture", "10 bytes"),
        (cv2.imencode(".bmp", picture_for("bgr8"))[1].tobytes(), "JPEG, PNG"),
        (b"\0" * 12 + PNG, "JPEG, PNG"),  # compressedDepth
        (JPEG[: len(JPEG) // 2], "a whole JPEG or PNG"),
        (JPEG[:-2], "a whole JPEG or PNG"),
        (PNG[: len(PNG) // 2], "a whole JPEG or PNG"),
        (PNG[:40] + bytes(40) + PNG[80:], "a whole JPEG or PNG"),
    ],
)
def test_bad_compressed_image_is_one_sentence(data, named):
    with pytest.raises(ImageError) as caught:
        rgb_from_message(CompressedImage("16UC1; compressedDepth png", data))
    assert named in str(caught.value)
    assert "16UC1; compressedDepth png" in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_larger_than_any_cameras_is_refused_before_it_is_decoded(monkeypatch, suffix):
    data = cv2.imencode(suffix, np.zeros((9000, 8000), np.uint8))[1].tobytes()
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(ImageError, match=r"a picture of 8000x9000; allowed: at most 67108864 pixels"):
        rgb_from_message(CompressedImage("", data))


@pytest.mark.parametrize("side", [100_000, 2**32 - 1])
def test_a_header_that_lies_about_the_size_is_one_sentence(side):
    header = PNG[:16] + side.to_bytes(4) * 2 + PNG[24:29]
    data = header + zlib.crc32(header[12:]).to_bytes(4) + PNG[33:]
    with pytest.raises(ImageError, match=f"a picture of {side}x{side}"):
        rgb_from_message(CompressedImage("png", data))


@pytest.mark.parametrize(
    "flags",
    [
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        [cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
        [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    ],
)
def test_every_kind_of_jpeg_tells_its_size(flags):
    data = cv2.imencode(".jpg", picture_for("bgr8"), flags)[1].tobytes()
    junk = data[:2] + b"\xff\xff\xff" + data[3:20] + b"\0junk" + data[20:]  # padding and junk between segments
    for content in (data, junk):
        assert np.array_equal(
            rgb_from_message(CompressedImage("", content)), rgb_from_message(CompressedImage("", data))
        )


@pytest.mark.parametrize("data", [JPEG, PNG])
def test_a_file_is_the_picture_of_the_message_that_carries_it(tmp_path, data):
    (tmp_path / "picture").write_bytes(data)
    assert np.array_equal(rgb_from_file(tmp_path / "picture"), rgb_from_message(CompressedImage("", data)))


@pytest.mark.parametrize("data", [JPEG[:-2], PNG[:40], b"GIF89a" + bytes(40), b""])
def test_a_bad_file_is_named(tmp_path, data):
    (tmp_path / "picture.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"picture\.png: its bytes .*; allowed: .*JPEG"):
        rgb_from_file(tmp_path / "picture.png")


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
@pytest.mark.parametrize("padding", [0, 3])
def test_masks_are_read_as_they_are(encoding, padding):
    labels = np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH, 1), np.uint8).repeat(3, axis=2)
    mask = mask_from_message(message_of(labels, encoding, padding=padding))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, labels[..., 0])


@pytest.mark.parametrize("encoding", ["rgb8", "mono16", "32SC1"])
def test_mask_of_another_encoding_is_refused_by_name(encoding):
    with pytest.raises(ImageError, match=f"mask: encoding is '{encoding}'; allowed: mono8, 8UC1"):
        mask_from_message(Image(2, 2, encoding, 0, 12, bytes(24)))


def test_random_headers_give_a_picture_or_an_image_error():
    rng = random.Random(0)
    sizes = [0, 1, 2, 3, 4, 5, 7, 8, 16, 2**16, 2**31, 2**32 - 1]
    refused = 0
    for _ in range(20000):
        height, width = rng.choice(sizes), rng.choice(sizes)
        encoding = rng.choice([*ENCODINGS, "32FC1", "jpeg", "RGB8", "\0"])
        step = rng.choice([0, 1, 7, width, 2 * width, 3 * width, 4 * width + 1, 8 * width, 2**32 - 1])
        data = rng.randbytes(rng.choice([0, 1, rng.randrange(600), 600, 2000]))
        message = Image(height, width, encoding, rng.choice([0, 1, 255]), step, data)
        try:
            rgb = rgb_from_message(message)
            assert (rgb.shape, rgb.dtype) == ((height, width, 3), np.uint8)
        except ImageError:
            refused += 1
    assert 0 < refused < 20000


def test_corrupted_jpeg_and_png_give_a_picture_or_an_image_error():
    rng = random.Random(0)
    for _ in range(1000):
        data = bytearray(rng.choice([JPEG, PNG]))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            rgb = rgb_from_message(
                CompressedImage("jpeg", bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]))
            )
            assert rgb.ndim == 3
        except ImageError:
            continue
