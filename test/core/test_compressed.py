"""Compressed pictures go by the rules of raw ones: depth and lost colour are refused, whatever the format says."""

import cv2
import numpy as np
import pytest
from support.pictures import HEIGHT, WIDTH, CompressedImage, Image, message_of, picture_for, samples_of

from maskact_ros.core.images import ENCODINGS, ImageError, rgb_from_file, rgb_from_message
from maskact_ros.core.picture_header import PictureHeader, header_of

RANDOM = np.random.default_rng(5)
COLOUR = picture_for("bgr8")
GREY = RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
DEPTH = RANDOM.integers(300, 4000, (HEIGHT, WIDTH), np.uint16)  # mm


def file_of(suffix: str, samples: np.ndarray, *flags: int) -> bytes:
    return cv2.imencode(suffix, samples, flags)[1].tobytes()


def refusal(text: str, content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        rgb_from_message(CompressedImage(text, content))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("16UC1; png compressed ", file_of(".png", DEPTH)),
        ("16UC1; png compressed 16UC1", file_of(".png", DEPTH)),
        ("16SC1; png compressed", file_of(".png", DEPTH)),
        ("16UC1; jpeg compressed ", file_of(".jpg", GREY)),
        ("32FC1; jpeg compressed mono8", file_of(".jpg", GREY)),
        ("32FC1; png compressed ", file_of(".png", COLOUR)),
        ("16UC1; compressedDepth png", bytes(12) + file_of(".png", DEPTH)),
        ("32FC1; compressedDepth", bytes(12) + file_of(".png", DEPTH)),
        ("16UC1; compressedDepth rvl", bytes(400)),
        ("mono16; compressedDepth png", file_of(".png", DEPTH)),
        ("16UC1", file_of(".png", DEPTH)),
    ],
)
def test_depth_is_refused_as_that_of_a_raw_image(text, content):
    assert "depth" in refusal(text, content)


def test_raw_depth_is_refused_with_the_reason():
    for encoding in ("16UC1", "32FC1", "64FC1"):
        with pytest.raises(ImageError, match=f"encoding is '{encoding}', which carries depth; allowed: rgb8"):
            rgb_from_message(Image(4, 4, encoding, 0, 32, bytes(128)))


@pytest.mark.parametrize("text", ["png", "", "jpeg", "bgr8; png compressed bgr8", "mono8; png compressed ", "8UC1"])
def test_a_grey_png_of_16_bits_is_depth_unless_the_format_says_mono16(text):
    assert any(word in refusal(text, file_of(".png", DEPTH)) for word in ("which is depth unless", "colour was lost"))
    rgb = rgb_from_message(CompressedImage("mono16; png compressed mono16", file_of(".png", DEPTH)))
    raw = rgb_from_message(Image(HEIGHT, WIDTH, "mono16", 0, 2 * WIDTH, DEPTH.astype("<u2").tobytes()))
    np.testing.assert_array_equal(rgb, raw)


def test_a_depth_png_in_a_file_is_refused_by_its_name(tmp_path):
    (tmp_path / "depth.png").write_bytes(file_of(".png", DEPTH))
    with pytest.raises(ImageError, match=r"depth\.png: its bytes are a grey picture of 16 bits, which is depth"):
        rgb_from_file(tmp_path / "depth.png")


@pytest.mark.parametrize(
    "source",
    ["yuv422_yuy2", "yuv422", "uyvy", "nv12", "rgb8", "bgra8", "8UC3", "rgb16", "bayer_grbg8", "yuv444", "nv24"],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_camera_in_colour_whose_compressed_pictures_are_grey_is_refused_and_told(source, suffix):
    name = {".jpg": "jpeg", ".png": "png"}[suffix]
    said = refusal(f"{source}; {name} compressed mono8", file_of(suffix, GREY))
    assert f"are grey, while the camera's own pictures are {source}: the colour was lost" in said
    # The text alone says it, and so does the picture alone.
    assert "colour was lost" in refusal(f"{source}; {name} compressed mono8", file_of(suffix, COLOUR))
    assert "colour was lost" in refusal(f"{source}; {name} compressed bgr8", file_of(suffix, GREY))


@pytest.mark.parametrize(
    "text", ["mono8; jpeg compressed ", "mono8; jpeg compressed mono8", "8UC1; png compressed", "jpeg", "png", "mono10"]
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_grey_camera_is_grey_as_its_raw_pictures_are(text, suffix):
    even = np.full((HEIGHT, WIDTH), 91, np.uint8)
    raw = rgb_from_message(Image(HEIGHT, WIDTH, "mono8", 0, WIDTH, even.tobytes()))
    np.testing.assert_array_equal(rgb_from_message(CompressedImage(text, file_of(suffix, even))), raw)


@pytest.mark.parametrize("source", ["rgb8", "yuv422_yuy2", "bayer_bggr8", "mono8", "unheard_of", "jpeg"])
def test_colour_is_colour_whatever_the_camera_said(source):
    content = file_of(".png", COLOUR[..., ::-1])
    rgb = rgb_from_message(CompressedImage(f"{source}; png compressed bgr8", content))
    np.testing.assert_array_equal(rgb, COLOUR)


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.startswith("bayer")])
@pytest.mark.parametrize("target", ["", " ", " SAME"])
def test_a_bayer_pattern_that_was_compressed_as_it_is_becomes_the_raw_pictures_colours(encoding, target):
    picture = picture_for(encoding)
    content = file_of(".png", samples_of(picture, encoding).astype(np.uint8))
    text = f"{encoding}; png compressed" + target.replace("SAME", encoding)
    if encoding.endswith("16"):
        content = file_of(".png", samples_of(picture, encoding).astype(np.uint16) * 257)
    expected = rgb_from_message(message_of(picture, encoding))
    np.testing.assert_array_equal(rgb_from_message(CompressedImage(text, content)), expected)


def test_a_bayer_pattern_that_is_too_small_is_one_sentence():
    assert "at least 3x3" in refusal("bayer_rggb8; png compressed ", file_of(".png", GREY[:2]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_and_alpha_of_a_png_go_by_the_raw_rules(dtype, channels):
    samples = RANDOM.integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, channels), dtype, endpoint=True)
    raw = {3: "bgr", 4: "bgra"}[channels] + {np.uint8: "8", np.uint16: "16"}[dtype]
    step = samples.nbytes // HEIGHT
    expected = rgb_from_message(Image(HEIGHT, WIDTH, raw, 0, step, samples.tobytes()))
    np.testing.assert_array_equal(rgb_from_message(CompressedImage("png", file_of(".png", samples))), expected)


def with_channels(jpeg: bytes, channels: int) -> bytes:
    """A JPEG whose header claims another number of channels."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 9] + bytes([channels]) + jpeg[at + 10 :]


def test_a_jpeg_for_print_is_refused():
    said = refusal("jpeg", with_channels(file_of(".jpg", COLOUR), 4))
    assert said.endswith("are a picture of 4 channels; allowed: 1 or 3")


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_jpeg_that_is_cut_off_is_refused_though_its_thumbnail_is_whole(kept):
    big = cv2.GaussianBlur(RANDOM.integers(0, 256, (96, 128, 3), np.uint8), (0, 0), 3)
    thumbnail = file_of(".jpg", big[::8, ::8])
    block = b"Exif\0\0" + bytes(20) + thumbnail
    for progressive in (0, 1):
        whole = file_of(".jpg", big, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
        tagged = whole[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + whole[2:]
        np.testing.assert_array_equal(
            rgb_from_message(CompressedImage("jpeg", tagged)), rgb_from_message(CompressedImage("jpeg", whole))
        )
        cut = tagged[: len(tagged) - round((1 - kept) * len(whole)) - 2]
        assert "a whole JPEG or PNG" in refusal("jpeg", cut)


def test_a_png_that_is_cut_off_is_refused_though_a_text_in_it_says_its_end():
    whole = file_of(".png", COLOUR)
    text = b"tEXtComment\0IEND"
    chunk = (len(text) - 4).to_bytes(4, "big") + text + (0).to_bytes(4, "big")
    assert "a whole JPEG or PNG" in refusal("png", (whole[:33] + chunk + whole[33:])[:-20])


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (file_of(".jpg", COLOUR), PictureHeader(WIDTH, HEIGHT, 3, 8)),
        (file_of(".jpg", GREY), PictureHeader(WIDTH, HEIGHT, 1, 8)),
        (file_of(".png", GREY), PictureHeader(WIDTH, HEIGHT, 1, 8)),
        (file_of(".png", DEPTH), PictureHeader(WIDTH, HEIGHT, 1, 16)),
        (file_of(".png", COLOUR.astype(np.uint16)), PictureHeader(WIDTH, HEIGHT, 3, 16)),
        (file_of(".png", (GREY > 99).astype(np.uint8), cv2.IMWRITE_PNG_BILEVEL, 1), PictureHeader(WIDTH, HEIGHT, 1, 8)),
        (b"\x89PNG\r\n", None),
        (b"\xff\xd8\xff", None),
    ],
)
def test_a_header_is_read_without_decoding(monkeypatch, content, header):
    monkeypatch.setattr(cv2, "imdecode", None)
    assert header_of(content) == header


@pytest.mark.parametrize("claimed", [2**32 - 1, 2**31, 100_000])
@pytest.mark.parametrize("chunk", [b"IDAT", b"IEND", b"tEXt"])
def test_a_png_whose_chunk_claims_more_than_there_is_is_not_decoded(monkeypatch, chunk, claimed):
    whole = file_of(".png", COLOUR)
    whole = whole[:33] + (4).to_bytes(4, "big") + b"tEXta\0bc" + (0).to_bytes(4, "big") + whole[33:]
    at = whole.index(chunk) - 4
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV makes room for what the chunk claims"))
    assert "a whole JPEG or PNG" in refusal("png", whole[:at] + claimed.to_bytes(4, "big") + whole[at + 4 :])


def test_a_jpeg_of_more_scans_than_anyone_needs_is_not_decoded(monkeypatch):
    """Each scan goes over all pixels again: 300 kB could keep a core busy for minutes."""
    big = np.tile(COLOUR, (20, 20, 1))
    whole = file_of(".jpg", big, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = whole.rfind(b"\xff\xda")
    repeated = whole[:last] + whole[last:-2] * (2**30 // (big.shape[0] * big.shape[1])) + whole[-2:]
    assert rgb_from_message(CompressedImage("jpeg", whole)).shape == big.shape
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it is begun"))
    assert "scans; allowed: fewer" in refusal("jpeg", repeated)
