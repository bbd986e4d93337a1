"""Bundles on devices: transports, targets, the agent's client, the rollout."""
