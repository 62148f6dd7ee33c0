"""What the documents tell a user to type exists: commands, options, files and examples."""

import json
import re
import shlex

import pytest
from support.source_tree import ROOT

from benchmarks.__main__ import parser as benchmarks_parser
from maskact_ros.cli import _parser
from maskact_ros.core.config import MaskACTConfig

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*/*.md"))
)


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_it_is_understood(document):
    for block in blocks(document, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["maskact"] and "…" not in words:
                _parser().parse_args(words[1:])
            elif words[:3] == ["python", "-m", "benchmarks"]:
                benchmarks_parser().parse_args(words[3:])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_it_refers_to_is_there(document):
    folder = (ROOT / document).parent
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / document).read_text(encoding="utf-8"))
    assert [link for link in links if not (folder / link).exists()] == []


def test_the_policy_of_the_training_guide_is_valid():
    (text,) = blocks("docs/training.md", "json")
    values = json.loads(text)
    assert len(values.pop("mask_classes")) == values["num_mask"]
    MaskACTConfig.from_dict(values)
