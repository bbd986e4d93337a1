"""The version of the package, where everyone may read it and the build does. In: nothing. Out: a string."""

__version__ = "0.1.0"
