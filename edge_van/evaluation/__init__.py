"""Accuracy of INT8 against FP32, and the gates on it."""
