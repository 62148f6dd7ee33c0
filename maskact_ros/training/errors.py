"""Errors of users in training."""

from maskact_ros.core.errors import MaskACTError


class TrainingError(MaskACTError):
    """A training run that cannot start or continue: the text names the thing, its value and what is allowed."""
