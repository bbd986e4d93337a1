"""``Recipe``: the settings of one quantisation, read from TOML over the packaged defaults. Imports no torch.

In: a ``.toml`` file, or nothing. Out: a frozen record that checks itself.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge_van.assets import DEFAULT_RECIPE, asset
from edge_van.errors import UsageError
from edge_van.text import single_line

SCHEME_NAMES = ("openvino", "asymmetric", "int8", "int8_pointwise")
"""The names in ``edge_van.quantization.scheme.SCHEMES``, kept here because that module needs torch; a test compares."""

TENSORRT_SCHEME_NAMES = ("int8", "int8_pointwise")
"""The symmetric ones: TensorRT takes no zero point but 0."""

TENSORRT_FLOATS = ("float16", "float32")
TENSORRT_INPUTS = ("float32", "uint8")
ACTIVATIONS = ("gelu", "hardswish")
MAX_SAMPLES = 100_000
MAX_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """What is calibrated, how, and how much accuracy it may cost.

    samples            calibration images, 1 to 100000
    equalize_strength  exponent of the channel equalisation, 0 (none) to 1 (complete)
    activation         "gelu" as trained, or "hardswish", faster and not quite the same function
    openvino_scheme    the scheme of the OpenVINO model
    tensorrt_schemes   the schemes of the Q/DQ ONNX files, one file each
    tensorrt_float     what the rest of those graphs computes in: "float16" or "float32"
    tensorrt_input     "float32" (N, 3, H, W), normalised, or "uint8" (N, H, W, 3) with the normalisation inside
    tensorrt_images    validation images each of those graphs is measured on, 1 to 100000
    max_drop_points    the largest top-1 drop, FP32 minus INT8, in percentage points, 0 to 100
    batch              images per calibration step, 1 to 256
    """

    samples: int
    equalize_strength: float
    activation: str
    openvino_scheme: str
    tensorrt_schemes: tuple[str, ...]
    tensorrt_float: str
    tensorrt_input: str
    tensorrt_images: int
    max_drop_points: float
    batch: int

    def __post_init__(self) -> None:
        _check_count("samples", self.samples, MAX_SAMPLES)
        _check_count("batch", self.batch, MAX_BATCH)
        _check_count("tensorrt_images", self.tensorrt_images, MAX_SAMPLES)
        _check_number("equalize_strength", self.equalize_strength, 1)
        _check_number("max_drop_points", self.max_drop_points, 100)
        if self.activation not in ACTIVATIONS:
            raise UsageError(f"activation is one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")
        if self.openvino_scheme not in SCHEME_NAMES:
            raise UsageError(f"openvino_scheme is one of {', '.join(SCHEME_NAMES)}; got {self.openvino_scheme!r}")
        for key, known in (("tensorrt_float", TENSORRT_FLOATS), ("tensorrt_input", TENSORRT_INPUTS)):
            if (value := getattr(self, key)) not in known:
                raise UsageError(f"{key} is one of {', '.join(known)}; got {value!r}")
        names = self.tensorrt_schemes
        if (
            not isinstance(names, tuple)
            or not names
            or any(name not in TENSORRT_SCHEME_NAMES for name in names)
            or len(set(names)) < len(names)
        ):
            raise UsageError(
                f"tensorrt_schemes is a list of {', '.join(TENSORRT_SCHEME_NAMES)}, each at most once; got {names!r}"
            )

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """Flat, as a bundle's manifest stores it: the names of ``tensorrt_schemes`` joined by commas."""
        return {
            field.name: ",".join(value) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in fields(self)
        }


def load_recipe(path: Path | None = None) -> Recipe:
    """The recipe in ``path``, whose missing keys come from the packaged default; without ``path``, that default.

    A ``UsageError`` in one line: a file that is missing or no TOML, an unknown key, a value that does not fit.
    """
    default = asset(DEFAULT_RECIPE)
    values = _read(default)
    if path is not None:
        values |= _read(path)
    if isinstance(names := values.get("tensorrt_schemes"), list):
        values["tensorrt_schemes"] = tuple(names)
    try:
        return Recipe(**values)
    except UsageError as error:
        raise UsageError(f"recipe {path or default}: {error}") from None
    except ValueError:  # Python does not print an integer of thousands of digits
        raise UsageError(f"recipe {path or default}: a number is far too large; see the default recipe") from None
    except TypeError:  # only the default can lack a key, and only where it was edited
        missing = [field.name for field in fields(Recipe) if field.name not in values]
        raise UsageError(f"{default} lacks {', '.join(missing)}; install edge-van again") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"recipe {path} does not exist; check the path, or leave it out for the default") from None
    except OSError as error:
        raise UsageError(f"recipe {path} cannot be read ({error.strerror}); give a TOML file") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or brackets without end
        reason = single_line(error)
        raise UsageError(f"recipe {path} is no TOML ({reason}); mend it, or start from a copy of the default") from None
    known = [field.name for field in fields(Recipe)]
    if unknown := sorted(set(values) - set(known)):
        raise UsageError(f"recipe {path} has unknown keys: {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    return values


def _check_count(name: str, value: object, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        raise UsageError(f"{name} is a whole number from 1 to {largest}; got {value!r}")


def _check_number(name: str, value: object, largest: int) -> None:
    # a boolean is an int to Python; NaN fails every comparison, so it is refused by the range
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= largest:
        raise UsageError(f"{name} is a number from 0 to {largest}; got {value!r}")
