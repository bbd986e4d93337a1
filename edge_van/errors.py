"""Every error the package raises on purpose, and the exit code each ends a command with.

In: nothing. Out: the exception tree below. A message says what was given, what was expected, what to do.

    EdgeVanError                 1  failed
    ├── UsageError               2  an option or argument that cannot be meant
    ├── CheckpointError          1  a checkpoint that cannot be read as a VAN
    ├── DataError                1  images or labels that cannot be used
    ├── VerificationError        1  a transformation or an exported file disagrees with where it came from
    ├── BundleError              1  a bundle that is damaged, unfinished or cannot be written
    ├── DeviceError              1  a device that refuses, fails, or breaks off
    ├── AccuracyGateError        3  the accuracy drop is over the limit that was asked for
    ├── LatencyGateError         4  the speed is under the limit that was asked for
    └── MissingRuntimeError      5  an engine, library or device is not there
"""

from __future__ import annotations


class EdgeVanError(Exception):
    """Base of all errors a user can cause or mend. ``exit_code`` ends the command."""

    exit_code = 1


class UsageError(EdgeVanError):
    """An option or argument that cannot be meant, or two that contradict each other."""

    exit_code = 2


class CheckpointError(EdgeVanError):
    """A checkpoint file that is missing, damaged, unsafe, or not a VAN."""


class DataError(EdgeVanError):
    """Images, labels or class names that cannot be used."""


class VerificationError(EdgeVanError):
    """A transformation's own check failed: its result does not agree with its input."""


class BundleError(EdgeVanError):
    """A bundle that is damaged, unfinished, of an unknown version, or that cannot be written."""


class DeviceError(EdgeVanError):
    """A device that refuses what is asked of it, fails at it, or breaks the connection off."""


class AccuracyGateError(EdgeVanError):
    """The measured accuracy drop is over the limit."""

    exit_code = 3


class LatencyGateError(EdgeVanError):
    """The measured speed is under the limit."""

    exit_code = 4


class MissingRuntimeError(EdgeVanError):
    """An inference engine, an optional library or a device is not there."""

    exit_code = 5
