"""What the documents tell a user to type exists: commands, options, files and examples."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from support.small_run import write_dataset
from support.source_tree import PACKAGE, ROOT

from benchmarks.__main__ import parser as benchmarks_parser
from maskact_ros.cli import _parser
from maskact_ros.policy.commands import read_policy

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
    assert [link for link in links if not (folder / link).is_file()] == []  # the site has no page for a folder


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document != "CHANGELOG.md"])
def test_every_source_file_that_it_names_is_there(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    assert [path for path in paths if not ((ROOT / path).exists() or (PACKAGE / path).exists())] == []


def run_python_of(document, folder):
    (code,) = blocks(document, "python")
    (folder / "example.py").write_text(code, encoding="utf-8")
    runpy.run_path(str(folder / "example.py"))


def test_the_example_that_prints_the_fastest_commands_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "dataset")  # whose commands move by 0.1 rad a row, at 30 Hz
    run_python_of("docs/own_robot.md", tmp_path)
    assert capsys.readouterr().out == "lift: 3.00\nturn: 3.00\n"


def test_the_example_that_writes_images_to_label_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "all", masks=False)
    run_python_of("docs/data.md", tmp_path)
    assert sorted(path.name for path in Path("to_label").iterdir()) == ["0.png", "666666660.png"]  # of 24 rows


def test_every_document_is_in_the_navigation_of_the_site():
    listed = re.findall(r"[\w./-]+\.md\b", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    decisions = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    listed += [f"docs/decisions/{page}" for page in re.findall(r"\]\(([^)]+)\)", decisions)]
    assert sorted(listed) == DOCUMENTS


@pytest.mark.parametrize("policy", sorted(ROOT.glob("config/*.json")), ids=lambda path: path.name)
def test_every_policy_that_ships_as_a_beginning_is_valid(policy):
    written = read_policy(policy)
    assert written.names_classes == written.config.use_mask


def test_the_template_is_for_a_pretrained_backbone_whose_classes_all_have_a_weight_and_a_rule():
    config = read_policy(ROOT / "config/policy_template.json").config
    assert config.freeze_backbone
    assert config.use_lora
    assert len(config.mask_importance_weights) == config.num_mask
    assert set(config.label_attention_rules) == {-1, *range(config.num_mask)}
