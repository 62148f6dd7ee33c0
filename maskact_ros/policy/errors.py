"""Errors of users about a policy."""

from maskact_ros.core.errors import MaskACTError


class PolicyError(MaskACTError):
    """Weights, backbone or input that do not fit the policy: the text names the thing and both values."""
