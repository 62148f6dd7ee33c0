"""How long the action publisher may take to end, which its supervisor allows for."""

LEAVING_S = 1.0  # how much longer than its limits need to stop an arm may take to come to rest, before we say so
