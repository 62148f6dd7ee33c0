"""What holds of all tests."""

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem):
    """A crash of pytest itself ends the run: what its worker had still to do would be left out without a word."""
    pytest.exit(f"pytest crashed in {crashitem}", returncode=pytest.ExitCode.INTERNAL_ERROR)
