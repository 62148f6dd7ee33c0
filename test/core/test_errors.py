"""What comes from outside is shown on one printable line and not at any length, by the error class and by itself."""

import copy
import time

import pytest

from maskact_ros.core.align import AlignmentError, JointOrder
from maskact_ros.core.errors import LONGEST, MaskACTError, printable

ODD = {
    "wrist\x1b[2J": r"wrist\x1b[2J",
    "a\n[INFO] [1.0] [node]: all is well": r"a\n[INFO] [1.0] [node]: all is well",
    "left\r\x07\x9b31m": r"left\r\x07\x9b31m",
    "safe\u202egnp.exe\u2066": r"safe\u202egnp.exe\u2066",
    "a\u2028b\u0085c\x7f": r"a\u2028b\x85c\x7f",
    "name of a file \udcff, cut\0": "name of a file ?, cut?",
    "tag \U000e0041": r"tag \U000e0041",
}


@pytest.mark.parametrize(("odd", "shown"), ODD.items(), ids=range(len(ODD)))
def test_what_is_not_printable_is_escaped_and_the_rest_stays(odd, shown):
    assert printable(odd) == shown
    assert printable(shown) == shown
    assert str(MaskACTError(f"the joint {odd} is missing")) == f"the joint {shown} is missing"


def test_ordinary_text_of_any_language_stays_as_it_is():
    text = r"Gelenk größer, 関節, сустав, C:\path, 12 µs ≤ 3 …"
    assert printable(text) == str(MaskACTError(text)) == text


@pytest.mark.parametrize("letter", ["x", "\x1b", "\U000e0041", "関"])
@pytest.mark.parametrize("length", [LONGEST + 100, 12_345, 3_000_000])
def test_of_a_long_text_the_middle_is_left_out_and_that_is_said(letter, length):
    text = "begin " + letter * length + " end"
    began_s = time.perf_counter()
    shown = printable(text)
    assert time.perf_counter() - began_s < 0.05
    assert len(shown) <= LONGEST + 100
    assert shown.isprintable()
    assert shown.startswith("begin ")
    assert shown.endswith(" end")
    assert "letters left out" in shown
    assert printable(shown) == shown


def test_an_error_may_have_lines_of_its_own_each_printable():
    error = MaskACTError("inference ended; its last lines:", lines=["first\x1b[0m", "second\nthird"])
    expected = "inference ended; its last lines:\n  first\\x1b[0m\n  second\\nthird"
    assert str(error) == expected
    assert str(copy.deepcopy(error)) == expected  # as when it goes to another process
    assert str(MaskACTError()) == ""


def test_a_joint_with_a_line_of_our_log_as_its_name_is_no_line_of_our_log():
    forged = "j\n[ERROR] [0.0] [action_publisher]: fault"
    with pytest.raises(AlignmentError) as refused:
        JointOrder(["elbow"]).pick([forged] * 200_000, [0.0] * 200_000)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= LONGEST + 100
