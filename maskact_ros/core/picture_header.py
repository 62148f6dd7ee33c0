"""What a JPEG or PNG says of itself: its size, channels and bits, read before anything is decoded.

In: the content of a file. Out: a `PictureHeader`, or None where the header is damaged or the end is missing: decoders
fill up what was cut off, so a picture is taken as whole only when its end is there.
"""

from __future__ import annotations

from dataclasses import dataclass

JPEG, PNG = "JPEG", "PNG"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # by colour type; alpha is no channel, a palette is of colours
_PNG_PALETTE = 3
_PNG_BEGIN = b"\0\0\0\x0dIHDR"  # the first chunk's length and name
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"  # the whole last chunk
_JPEG_END = b"\xff\xd9"
# The second byte of a JPEG's markers: those that begin a frame header, those that no length follows, and the one
# behind which the picture is.
_JPEG_FRAMES = [bytes([code]) for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)]
_JPEG_ALONE = [bytes([code]) for code in (0x00, 0x01, *range(0xD0, 0xD9), 0xFF)]
_JPEG_SCAN = b"\xda"
SCAN = b"\xff" + _JPEG_SCAN  # what each scan of a JPEG begins with


@dataclass(frozen=True)
class PictureHeader:
    """Of a whole picture; `channels` are 1 where it is grey, 3 in colour, whatever else a JPEG has."""

    width: int
    height: int
    channels: int
    bits: int  # of a sample, 8 or 16


def kind_of(content: bytes) -> str | None:
    """JPEG or PNG, by the first bytes; None of anything else."""
    if content.startswith(b"\xff\xd8"):
        return JPEG
    return PNG if content.startswith(b"\x89PNG\r\n") else None


def header_of(content: bytes) -> PictureHeader | None:
    """The header of a whole JPEG or PNG, else None."""
    return _jpeg(content) if kind_of(content) == JPEG else _png(content)


def _png(content: bytes) -> PictureHeader | None:
    """From the first chunk; each has to be within the content, as decoders make room for whatever length it says."""
    at = 8
    while content[at : at + 12] != _PNG_END:
        at += 12 + int.from_bytes(content[at : at + 4])  # length, name, content, checksum
        if at + 12 > len(content):
            return None
    if content[8:16] != _PNG_BEGIN:
        return None
    width, height = int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    depth, colour_type = content[24], content[25]
    if colour_type not in _PNG_CHANNELS:
        return None
    bits = 8 if colour_type == _PNG_PALETTE else max(8, depth)  # fewer bits are decoded to eight
    return PictureHeader(width, height, _PNG_CHANNELS[colour_type], bits)


def _jpeg(content: bytes) -> PictureHeader | None:
    """From the frame header; as decoders do, junk between segments is skipped."""
    at, header = 2, None
    while (at := content.find(b"\xff", at)) >= 0:
        marker = content[at + 1 : at + 2]
        if marker in _JPEG_FRAMES and header is None:
            frame = content[at + 4 : at + 10]  # bits, height, width, channels
            if len(frame) < 6:
                return None
            header = PictureHeader(int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3]), frame[5], frame[0])
        if marker == _JPEG_SCAN:  # an end before it is that of a thumbnail
            return header if content.rfind(_JPEG_END, at) >= 0 else None
        at += 1
        if marker not in _JPEG_ALONE:
            at += 1 + int.from_bytes(content[at + 1 : at + 3])
    return None
