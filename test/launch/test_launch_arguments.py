"""A misspelt launch argument or option is refused with the closest name, and starts nothing."""

import shutil

import pytest

from maskact_ros.cli import main
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import shared
from maskact_ros.tools.bringup import DESCRIPTIONS
from maskact_ros.tools.launch_arguments import check_names

FILE = shared("launch/bringup.launch.py")
BY_PACKAGE = ["launch", "maskact_ros", "bringup.launch.py"]
BY_PATH = ["launch", "--noninteractive", str(FILE)]


def check(*command_line: str, held: tuple[str, ...] = ()) -> list[str]:
    return check_names(command_line, FILE, [*DESCRIPTIONS, *held], DESCRIPTIONS)


@pytest.mark.parametrize("start", [BY_PACKAGE, BY_PATH, ["launch", "-d", "maskact_ros", "-n", "bringup.launch.py"]])
@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("simm:=true", "unknown launch argument simm:=true; did you mean sim?"),
        ("polcy_path:=runs/a", "unknown launch argument polcy_path:=runs/a; did you mean policy_path?"),
        ("name_space:=left", "unknown launch argument name_space:=left; did you mean namespace?"),
        ("params-file:=a:=b", "unknown launch argument params-file:=a:=b; did you mean params_file?"),
        ("dry_run:=true", "unknown launch argument dry_run:=true; allowed: policy_path, params_file,"),
        ("sigkill_timeout:=60", "unknown launch argument sigkill_timeout:=60; allowed: policy_path"),
    ],
)
def test_an_argument_that_does_not_exist_is_refused_with_the_closest_that_does(start, argument, sentence):
    with pytest.raises(MaskACTError) as caught:
        check(*start, "rviz:=false", argument)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("start", [BY_PACKAGE, BY_PATH])
def test_what_exists_is_taken(start):
    given = [f"{name}:=x" for name in DESCRIPTIONS]
    assert check(*start, *given, "launch-prefix:=nice", "emulate_tty:=false") == []


@pytest.mark.parametrize("name", ["my_cell.launch.py", "bringup.launch.py"])
def test_a_launch_file_that_includes_ours_may_have_arguments_of_its_own(tmp_path, name):
    parent = tmp_path / name
    shutil.copy(FILE, parent)
    by_path = ["launch", str(parent), "robot_ip:=192.168.0.7", "use_sim:=true"]
    by_package = ["launch", "my_cell", name, "robot_ip:=192.168.0.7", "use_sim:=true"]
    for command_line in (by_path, by_package):
        assert check(*command_line, held=("robot_ip", "use_sim")) == []


def test_what_it_may_have_misspelt_is_warned_of():
    assert check("launch", "my_cell", "cell.launch.py", held=("robot_ip", "polcy_path", "nmespace")) == [
        "polcy_path is no argument of bringup.launch.py; did you mean policy_path?",
        "nmespace is no argument of bringup.launch.py; did you mean namespace?",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["bringup", "--simm"], "maskact bringup: error: unrecognized arguments: --simm; did you mean --sim?"),
        (["bringup", "--si"], "--si; did you mean --sim?"),
        (["bringup", "--polcy-path=x"], "--polcy-path=x; did you mean --policy-path?"),
        (["bringup", "--use-sim"], "--use-sim; did you mean --use-sim-time?"),
        (["monitor", "--onse"], "maskact monitor: error: unrecognized arguments: --onse; did you mean --once?"),
        (["bench", "control", "--jsn"], "unrecognized arguments: --jsn; did you mean --json?"),
        (["bringup", "--expertise"], "unrecognized arguments: --expertise"),
    ],
)
def test_an_option_of_maskact_is_neither_guessed_nor_abbreviated(capsys, words, sentence):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
