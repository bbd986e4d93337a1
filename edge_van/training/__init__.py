"""Training a VAN: images, augmentation, the loop. Several processes go through Hugging Face Accelerate."""
