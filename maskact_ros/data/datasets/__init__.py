"""LeRobot datasets: writing and reading them."""
