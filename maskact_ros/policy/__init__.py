"""The policy: DINOv3 encoder, mask head and ACT transformer, from uint8 images and joint positions to actions."""
