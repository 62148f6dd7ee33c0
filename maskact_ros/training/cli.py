"""The subcommands of `maskact` that train policies, and measure them."""

from __future__ import annotations

import argparse


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them; what they need is loaded when they run."""
