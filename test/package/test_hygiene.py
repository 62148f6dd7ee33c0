"""What may not be committed."""

import re

import pytest
from support.source_tree import ROOT, committed_files

MAX_BYTES = 10 * 2**20

# Written so that this file does not contain what it forbids.
FORBIDDEN = {
    "an unfinished place": re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
    "a package registry's host": re.compile(
        r"(pypi|pythonhosted|npmjs|anaconda)\.(org|com)|download\.py" + r"torch\.org|files\.python" + "hosted"
    ),
    "a path of one machine": re.compile(r"(?<![\w.])/(work|root|home)" + r"/\w"),
}


def test_no_committed_file_is_larger_than_ten_megabytes():
    assert [str(path.relative_to(ROOT)) for path in committed_files() if path.stat().st_size > MAX_BYTES] == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_text_holds(what):
    found = []
    for path in committed_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or an array
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in FORBIDDEN[what].finditer(text)]
    assert found == []
