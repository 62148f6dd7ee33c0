"""The policy computes what the published reference computes, and reads the checkpoints that it writes."""

import cv2
import numpy as np
import pytest
from reference_checkpoint import REFERENCE

from maskact_ros.policy.commands import import_reference, predict_once


@pytest.fixture(scope="module")
def vectors():
    return np.load(REFERENCE / "io.npz")


@pytest.fixture(scope="module")
def imported(reference_folder, tmp_path_factory):
    return import_reference(
        reference_folder, tmp_path_factory.mktemp("imported") / "checkpoint", REFERENCE / "backbone"
    )


def predicted(checkpoint, vectors, tmp_path):
    image, out = tmp_path / "image.png", tmp_path / "out.npz"
    cv2.imwrite(str(image), cv2.cvtColor(vectors["image"], cv2.COLOR_RGB2BGR))
    predict_once(checkpoint, image, vectors["state"].tolist(), out)
    return np.load(out)


def assert_reproduced(result, vectors):
    np.testing.assert_allclose(result["features"], vectors["features"], atol=1e-4)
    np.testing.assert_allclose(result["chunk"], vectors["chunk"], atol=1e-4)
    # fp16 keeps eleven bits.
    np.testing.assert_allclose(result["pixel_logits"], vectors["pixel_logits"], rtol=2**-11, atol=1e-4)
    np.testing.assert_array_equal(result["patch_labels"], vectors["patch_labels"])


def test_an_imported_checkpoint_reproduces_the_reference(imported, vectors, tmp_path):
    assert_reproduced(predicted(imported.folder, vectors, tmp_path), vectors)


def test_the_vectors_have_several_labels(vectors):
    assert len(np.unique(vectors["patch_labels"])) == 3
