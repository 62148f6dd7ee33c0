"""`maskact --help`: a newcomer finds each command, under what it is for."""

import pytest

from maskact_ros.cli import GROUPS, main


def test_each_command_is_listed_once_under_its_group(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    listed = lines[lines.index("commands:") : -1]  # the last line says how to learn more
    titles = [listed.index(f"{title}:") for title in GROUPS]
    assert titles == sorted(titles)
    shown = [line.split()[0] for line in listed[1:] if line and not line.endswith(":")]
    assert shown == [name for names in GROUPS.values() for name in names]


def test_no_command_is_in_no_group(capsys):
    with pytest.raises(SystemExit):
        main(["no-such-command"])
    said = capsys.readouterr().err
    assert {name for names in GROUPS.values() for name in names} == set(
        said.partition("choose from ")[2].strip().rstrip(")").replace("'", "").split(", ")
    )
