"""Rosbags: reading, writing, and aligning their messages to rows."""
