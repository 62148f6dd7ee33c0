"""Statistics, normalisation and preprocessing: one map each way, and no silent gap."""

import numpy as np
import pytest
import torch

from maskact_ros.core.statistics import IMAGE_STATISTICS, FeatureStatistics, Statistics, StatisticsError
from maskact_ros.policy.model.normalize import Normalizer
from maskact_ros.policy.model.preprocess import ImagePreprocessor

JOINTS = FeatureStatistics(mean=(1.0, -2.0), std=(0.5, 4.0), min=(-1.0, 0.0), max=(3.0, 0.5))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("MEAN_STD", [[-2.0, 0.75]]), ("MIN_MAX", [[-0.5, 3.0]]), ("IDENTITY", [[0.0, 1.0]])],
)
def test_each_mode_normalises_by_its_formula_and_back(mode, expected):
    normalizer = Normalizer(statistics=JOINTS, mode=mode, feature="state", width=2)
    values = torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(normalizer(values), torch.tensor(expected))
    torch.testing.assert_close(normalizer.inverse(normalizer(values)), values)


@pytest.mark.parametrize(
    ("statistics", "mode", "words"),
    [
        (FeatureStatistics(mean=(0.0, 0.0)), "MEAN_STD", "statistics of state: std is missing"),
        (FeatureStatistics(), "MIN_MAX", "statistics of state: min is missing"),
        (FeatureStatistics(mean=(0.0, 0.0), std=(1.0, -0.5)), "MEAN_STD", "mean and std of element 1 are 0 and -0.5"),
        (FeatureStatistics(min=(0.0, 2.0), max=(1.0, 1.5)), "MIN_MAX", "min and max of element 1 are 2 and 1.5"),
        (FeatureStatistics(mean=(0.0, float("nan")), std=(1.0, 1.0)), "MEAN_STD", "state: mean is [0.0, nan]"),
        (FeatureStatistics(mean=(0.0, 0.0), std=(1.0, float("inf"))), "MEAN_STD", "state: std is [1.0, inf]"),
        (FeatureStatistics(mean=(0.0, 0.0), std=(1.0, 1e300)), "MEAN_STD", "state: std is [1.0, 1e+300]"),
        (FeatureStatistics(mean=(0.0,), std=(1.0,)), "MEAN_STD", "state: mean has 1 numbers; allowed: 2"),
    ],
)
def test_statistics_that_cannot_normalise_are_an_error(statistics, mode, words):
    with pytest.raises(StatisticsError) as error:
        statistics.affine(mode, feature="state", width=2)
    assert words in str(error.value)


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX"])
def test_a_joint_that_never_moved_is_centred_and_not_scaled(mode):
    still = FeatureStatistics(mean=(0.3, -2.0), std=(0.0, 4.0), min=(0.3, -6.0), max=(0.3, 2.0))
    centre, scale = still.affine(mode, feature="state", width=2)
    np.testing.assert_array_equal(centre, [0.3, -2.0])
    np.testing.assert_array_equal(scale, [1.0, 4.0])


@pytest.mark.parametrize(
    "values",
    [
        None,
        {},
        {"state": {}, "action": {}},
        {"state": 3, "action": {}, "image": {}},
        {"state": {"mean": 1}},
        {"state": {}, "action": {"std": [True]}, "image": {}},
        {"state": {}, "action": {"std": [10**400]}, "image": {}},
        {"state": {}, "action": {"std": [float("nan")]}, "image": {}},
    ],
)
def test_malformed_statistics_are_an_error(values):
    with pytest.raises(StatisticsError):
        Statistics.from_dict(values)


def test_statistics_of_limits_put_an_untrained_chunk_into_the_middle(robot):
    statistics = Statistics.from_limits(robot)
    centre, scale = statistics.action.affine("MEAN_STD", feature="action", width=3)
    np.testing.assert_allclose(centre, (robot.lower + robot.upper) / 2)
    np.testing.assert_allclose(scale, (robot.upper - robot.lower) / 4)
    assert Statistics.from_dict(statistics.to_dict()) == statistics


def test_a_dark_picture_is_scaled_like_any_other():
    preprocess = ImagePreprocessor(statistics=IMAGE_STATISTICS, mode="IDENTITY")
    dark = torch.ones(1, 2, 2, 3, dtype=torch.uint8)  # only ones: a scale that looked at the values would keep them
    torch.testing.assert_close(preprocess(dark), torch.full((1, 3, 2, 2), 1 / 255))


@pytest.mark.parametrize(("mode", "red"), [("MEAN_STD", (1 - 0.485) / 0.229), ("MIN_MAX", 1.0), ("IDENTITY", 1.0)])
def test_pictures_are_normalised_channel_by_channel_in_rgb_order(mode, red):
    picture = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    picture[..., 0] = 255
    result = ImagePreprocessor(statistics=IMAGE_STATISTICS, mode=mode)(picture)
    assert result.shape == (1, 3, 4, 4)
    torch.testing.assert_close(result[0, 0], torch.full((4, 4), red))
