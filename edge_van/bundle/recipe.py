"""``Recipe``: the settings of one quantisation, as a bundle records them. Imports no torch.

In: values. Out: a frozen record that checks itself; ``quantization.recipe`` reads one from a TOML file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edge_van.errors import UsageError

SCHEME_NAMES = ("openvino", "openvino_fast", "asymmetric", "int8", "int8_pointwise")
"""Schemes of an OpenVINO model for x86. ``edge_van.quantization.scheme.SCHEMES`` has these and ARM's; they are named
here because that module needs torch, and a test compares."""

TARGET_NAMES = ("openvino", "openvino_arm", "tensorrt")
"""What a bundle can be made for."""

ARM_SCHEME_NAME = "openvino_arm"
"""The scheme that OpenVINO has integer kernels for on ARM."""

TENSORRT_SCHEME_NAMES = ("int8", "int8_pointwise")
"""The symmetric ones: TensorRT takes no zero point but 0."""

TENSORRT_FLOATS = ("float16", "float32")
TENSORRT_INPUTS = ("float32", "uint8")
ACTIVATIONS = ("gelu", "hardswish", "relu", "auto")
ACTIVATION_WORDS = {"gelu": "GELU", "hardswish": "hard-swish", "relu": "ReLU"}
ACTIVATION_PLACES = tuple(f"block{stage}.{part}" for stage in range(1, 5) for part in ("attn", "mlp"))
"""Where a VAN has GELUs: behind the first 1x1 of a stage's attentions, behind the 3x3 of its feed-forwards."""
MAX_SAMPLES = 100_000
MAX_BATCH = 256
METHODS = ("ptq", "reconstruction", "qat")
RANGES = ("squared_error", "minmax")
AUTO_LAYERS = ("auto",)
"""Of ``float_layers``: to be chosen by measurement."""
MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class QATSettings:
    """How a quantised network is trained, by "qat" or, shorter, by "reconstruction": how long, on how much, how fast.

    images          drawn from the calibration images, 1 to 100000; labels are not used
    steps           updates, 1 to 1000000, each of ``batch`` images, 1 to 256
    learning_rate   of the weights at its highest: AdamW without weight decay, linear warm-up over the first twentieth
                    of the steps, then a cosine to 0
    range_rate      the same for the logarithms of the activations' scales
    feature_weight  of the stages' mean error beside the logits'
    frozen_share    of the steps, at the end, in which no scale moves any more, 0 to 1
    """

    images: int = 3000
    steps: int = 600
    batch: int = 32
    learning_rate: float = 5e-5
    range_rate: float = 1e-3
    feature_weight: float = 0.5
    frozen_share: float = 0.2

    def __post_init__(self) -> None:
        for name, largest in (("images", MAX_SAMPLES), ("steps", MAX_STEPS), ("batch", MAX_BATCH)):
            _check_count(name, getattr(self, name), largest)
        for name, limit in (("learning_rate", 1), ("range_rate", 1), ("feature_weight", 1000), ("frozen_share", 1)):
            _check_number(name, getattr(self, name), limit)


def for_reconstruction() -> QATSettings:
    """A minute's worth: ranges by the error of the outputs, biases and weights moved within their rounding."""
    return QATSettings(images=300, steps=60, learning_rate=2e-5, range_rate=1e-2)


@dataclass(frozen=True)
class Recipe:
    """What is calibrated, how, and how much accuracy it may cost.

    samples            calibration images, 1 to 100000
    equalize_strength  exponent of the channel equalisation, 0 (none) to 1 (complete)
    activation         "gelu" as trained; "hardswish", faster and not quite the same function; "relu", faster still and
                       another function, to be trained; "auto", hard-swish where that pays and the drop allows it
    activation_places  where it stands, of block1.attn, block1.mlp to block4.mlp; none: everywhere
    openvino_scheme    the scheme of the OpenVINO model
    tensorrt_schemes   the schemes of the Q/DQ ONNX files, one file each
    tensorrt_float     what the rest of those graphs computes in: "float16" or "float32"
    tensorrt_input     "float32" (N, C, H, W), normalised, or "uint8" (N, H, W, C) with the normalisation inside
    tensorrt_images    validation images each of those graphs is measured on, 1 to 100000
    max_drop_points    the largest top-1 drop, FP32 minus INT8, in percentage points, 0 to 100
    batch              images per calibration step, 1 to 256
    method             "ptq": ranges by calibration; "reconstruction" and "qat": weights and ranges trained after it, on
                       few images in a minute or on many for longer
    qat                how "qat" is done
    reconstruction     how "reconstruction" is done
    ranges             of the activations: "squared_error", what rounding and clipping cost least at; "minmax", all that
                       was seen
    float_layers       layers that the OpenVINO model leaves in float, by their official names; "auto" alone: the kinds
                       that this CPU runs sooner so
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
    method: str = "ptq"
    qat: QATSettings = field(default_factory=QATSettings)
    reconstruction: QATSettings = field(default_factory=for_reconstruction)
    ranges: str = "squared_error"
    float_layers: tuple[str, ...] = ()
    activation_places: tuple[str, ...] = ()

    @property
    def training(self) -> QATSettings | None:
        """What its method trains by; None for "ptq"."""
        return {"qat": self.qat, "reconstruction": self.reconstruction}.get(self.method)

    @property
    def unchanged(self) -> Recipe:
        """With the network as it is given where the activation is yet to be chosen."""
        return replace(self, activation="gelu") if self.activation == "auto" else self

    @property
    def is_mixed(self) -> bool:
        """Whether the layers that stay in float are yet to be chosen."""
        return self.float_layers == AUTO_LAYERS

    @property
    def images(self) -> int:
        """Calibration images that it takes."""
        return self.samples if self.training is None else max(self.samples, self.training.images)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method is one of {', '.join(METHODS)}; got {self.method!r}")
        _check_count("samples", self.samples, MAX_SAMPLES)
        _check_count("batch", self.batch, MAX_BATCH)
        _check_count("tensorrt_images", self.tensorrt_images, MAX_SAMPLES)
        _check_number("equalize_strength", self.equalize_strength, 1)
        _check_number("max_drop_points", self.max_drop_points, 100)
        if self.activation not in ACTIVATIONS:
            raise UsageError(f"activation is one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")
        places = self.activation_places
        are_places = isinstance(places, tuple) and all(place in ACTIVATION_PLACES for place in places)
        if not are_places or len(set(places)) < len(places):
            raise UsageError(
                f"activation_places is a list of {', '.join(ACTIVATION_PLACES)}, each at most once; got {places!r}"
            )
        if places and self.activation not in ("hardswish", "relu"):
            raise UsageError(
                f"activation_places is where hardswish or relu stands; the activation is {self.activation}"
            )
        if self.ranges not in RANGES:
            raise UsageError(f"ranges is one of {', '.join(RANGES)}; got {self.ranges!r}")
        layers = self.float_layers
        if (
            not isinstance(layers, tuple)
            or not all(isinstance(n, str) for n in layers)
            or len(set(layers)) < len(layers)
        ):
            raise UsageError(f"float_layers is a list of layers' names, each at most once; got {layers!r}")
        if "auto" in layers and not self.is_mixed:
            raise UsageError("float_layers is either auto, which chooses, or a list of layers' names")
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


def _check_count(name: str, value: object, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        raise UsageError(f"{name} is a whole number from 1 to {largest}; got {value!r}")


def _check_number(name: str, value: object, largest: int) -> None:
    # a boolean is an int to Python; NaN fails every comparison, so it is refused by the range
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= largest:
        raise UsageError(f"{name} is a number from 0 to {largest}; got {value!r}")
