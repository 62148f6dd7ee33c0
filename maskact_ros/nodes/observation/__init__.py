"""The inputs of camera_encoder and inference, pictures and joint states, and their parameters."""
