"""TensorRT without torch: rules, build, proof of precision, trtexec, choice."""
