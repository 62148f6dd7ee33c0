"""The action publisher's parts: what it is asked, what it sends, and who else sends."""
