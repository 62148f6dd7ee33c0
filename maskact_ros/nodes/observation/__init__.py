"""What camera_encoder and inference make of pictures and joint states."""
