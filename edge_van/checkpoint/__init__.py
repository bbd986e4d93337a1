"""Every known layout of weights, read into a VAN and an InputSpec."""
