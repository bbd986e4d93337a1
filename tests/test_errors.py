"""``edge_van.errors``: the exit codes that the command line promises, and one root for all of them."""

import inspect

import pytest

from edge_van import errors

EXIT_CODES = {
    "EdgeVanError": 1,
    "UsageError": 2,
    "CheckpointError": 1,
    "DataError": 1,
    "VerificationError": 1,
    "BundleError": 1,
    "AccuracyGateError": 3,
    "LatencyGateError": 4,
    "DeviceError": 1,
    "MissingRuntimeError": 5,
}


def test_every_error_and_its_exit_code():
    found = {name: cls.exit_code for name, cls in inspect.getmembers(errors, inspect.isclass)}
    assert found == EXIT_CODES


@pytest.mark.parametrize("name", EXIT_CODES)
def test_one_root_and_the_message_survives(name: str):
    cls = getattr(errors, name)
    assert issubclass(cls, errors.EdgeVanError)
    with pytest.raises(errors.EdgeVanError, match="given, expected, what to do"):
        raise cls("given, expected, what to do")


@pytest.mark.parametrize("name", EXIT_CODES)
def test_the_docstring_tree_is_true(name: str):
    line = next(line for line in errors.__doc__.splitlines() if name in line.split() or line.strip().startswith(name))
    assert str(EXIT_CODES[name]) in line.split()
