"""`maskact inspect` writes one page that shows the dataset, and asks no network for anything."""

import base64
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from support import foreign, written

from maskact_ros import cli
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.data.inspection.inspection_figures import film


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = written.write(tmp_path_factory.mktemp("inspected") / "cubes & bins")
    path = folder / "meta/maskact/report.json"
    report = json.loads(path.read_text())
    gap = {"from_ns": 0, "seconds": 1.25, "reason": "no picture for 1.25 s"}
    report["bags"] = [{"path": "/bags/monday", "recorded_s": 9.0, "gaps": [gap], "dropped": {"no <mask>": 4}}]
    report["episodes"][1] |= {"ended_by": "the bag's end", "age_ms": {"state": {"p50": 4.0, "p95": 6.25, "max": 8.5}}}
    path.write_text(json.dumps(report))
    return folder


@pytest.fixture(scope="module")
def page(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert run(dataset, "--html", path, "--episodes", "2") == 0
    return path.read_text(encoding="utf-8")


def run(*words):
    with pytest.raises(SystemExit) as done:
        cli.main(["inspect", *map(str, words)])
    return done.value.code


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_asks_nobody_for_anything(page):
    tags = Tags(page)
    assert tags.open == []
    sources = [attributes["src"] for _, attributes in tags.found if "src" in attributes]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not [tag for tag, _ in tags.found if tag in ("link", "iframe", "object")]
    without_data = re.sub(r"data:image/[^\"]+", "", page)
    assert "http" not in without_data
    assert "@import" not in without_data


def test_the_episodes_asked_for_are_spread_over_the_dataset(page):
    assert re.findall(r"<h2>Episode (\d+)</h2>", page) == ["0", "2"]
    assert len(page) < 1_000_000


def test_the_page_tells_gaps_ages_joints_and_classes(dataset, page, tmp_path):
    for told in ("monday", "1.25", "no picture for 1.25 s", "4 dropped: no &lt;mask&gt;", "lift", "cubes &amp; bins"):
        assert told in page
    assert run(dataset, "--html", tmp_path / "all.html", "--episodes", "3") == 0
    text = (tmp_path / "all.html").read_text(encoding="utf-8")
    for told in ("age of state", "6.2", "8.5", "ended by: the bag&#x27;s end", "picture to picture", "100.0"):
        assert told in text


def test_a_film_shows_the_episode_from_its_first_picture_to_its_last(dataset):
    opened = Dataset.open(dataset)
    shown = film(opened, opened.episodes[2])
    assert [shown.pictures[0][0], shown.pictures[-1][0]] == [0.0, 2.3]
    content = base64.b64decode(shown.pictures[-1][1].partition(",")[2])
    last = cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(np.median(last[:, 50:].astype(int), axis=(0, 1)) - foreign.picture(35)[0, 50]).max() < 6
    np.testing.assert_allclose(shown.shares[0], np.bincount(foreign.mask(12).ravel()) / foreign.mask(12).size)


@pytest.mark.parametrize("episodes", ["0", "101"])
def test_a_number_of_episodes_that_makes_no_page_is_refused(dataset, tmp_path, episodes, capsys):
    assert run(dataset, "--html", tmp_path / "page.html", "--episodes", episodes) == 1
    assert f"--episodes is {episodes}; allowed: 1 to 100" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
