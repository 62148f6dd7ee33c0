"""The action publisher's parts: its requests, its command topics, and checks for other nodes that send commands."""
