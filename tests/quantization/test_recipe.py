"""``edge_van.quantization.recipe``: the default, a recipe over it, and every mistake a recipe can hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge_van.bundle.recipe import ARM_SCHEME_NAME, SCHEME_NAMES, TENSORRT_SCHEME_NAMES, Recipe
from edge_van.errors import UsageError
from edge_van.quantization.recipe import load_recipe

DEFAULT = Recipe(
    samples=300,
    equalize_strength=0.5,
    activation="gelu",
    openvino_scheme="openvino",
    tensorrt_schemes=("int8", "int8_pointwise"),
    tensorrt_float="float16",
    tensorrt_input="float32",
    tensorrt_images=1000,
    max_drop_points=1.0,
    batch=25,
)


def recipe_file(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_default() -> None:
    assert load_recipe() == load_recipe(None) == DEFAULT


def test_a_recipe_changes_only_what_it_names(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, 'samples = 7\nequalize_strength = 1\ntensorrt_schemes = ["int8_pointwise", "int8"]\n')
    expected = dataclasses.replace(
        DEFAULT, samples=7, equalize_strength=1.0, tensorrt_schemes=("int8_pointwise", "int8")
    )
    assert load_recipe(path) == expected
    assert load_recipe(recipe_file(tmp_path, "")) == DEFAULT


def test_names_are_those_of_the_schemes() -> None:
    from edge_van.quantization.scheme import SCHEMES

    assert tuple(SCHEMES) == (*SCHEME_NAMES, ARM_SCHEME_NAME)
    symmetric = tuple(name for name, scheme in SCHEMES.items() if scheme.symmetric)
    assert symmetric == (*TENSORRT_SCHEME_NAMES, ARM_SCHEME_NAME)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("samples = 0", "samples"),
        ("samples = 100001", "samples"),
        ("samples = 300.0", "samples"),
        ("samples = true", "samples"),
        ('samples = "300"', "samples"),
        ("batch = 0", "batch"),
        ("batch = 257", "batch"),
        ("equalize_strength = -0.1", "equalize_strength"),
        ("equalize_strength = 1.1", "equalize_strength"),
        ("equalize_strength = nan", "equalize_strength"),
        ("equalize_strength = true", "equalize_strength"),
        ("max_drop_points = -1", "max_drop_points"),
        ("max_drop_points = inf", "max_drop_points"),
        ('openvino_scheme = "int4"', "openvino_scheme"),
        ('openvino_scheme = ["openvino"]', "openvino_scheme"),
        ("tensorrt_schemes = []", "tensorrt_schemes"),
        ('tensorrt_schemes = "int8"', "tensorrt_schemes"),
        ('tensorrt_schemes = ["int8", "int8"]', "tensorrt_schemes"),
        ('tensorrt_schemes = ["openvino"]', "int8, int8_pointwise"),
        ("tensorrt_schemes = [[1]]", "tensorrt_schemes"),
        ('ranges = "percentile"', "ranges is one of squared_error, minmax"),
        ('float_layers = "head"', "float_layers"),
        ('float_layers = ["auto", "head"]', "float_layers is either auto"),
        ('float_layers = ["head", "head"]', "float_layers"),
        ("float_layers = [1]", "float_layers"),
        ('activation = "swish"', "activation is one of gelu, hardswish, relu, auto"),
        ('activation = "relu"\nactivation_places = ["block5.mlp"]', "block1.attn, block1.mlp"),
        ('activation = "relu"\nactivation_places = ["block1.mlp", "block1.mlp"]', "at most once"),
        ('activation = "relu"\nactivation_places = [[1]]', "activation_places"),
        ('activation_places = ["block1.mlp"]', "the activation is gelu"),
        ('method = "reconstruct"', "method is one of ptq, reconstruction, qat"),
        ("[reconstruction]\nsteps = 0", "reconstruction.steps"),
        ("[reconstruction]\nstep = 1", "reconstruction.step"),
        ("reconstruction = 3", "reconstruction is a table"),
        ("[qat]\nlearning_rate = 2", "qat.learning_rate"),
        ("sample = 300", "'sample'"),
        ("[samples]\ncount = 3", "samples"),
        ('"new\\nline" = 1', "unknown"),
        ("samples 300", "no TOML"),
        ("samples = 3\nsamples = 4", "no TOML"),
        ("samples = " + "[" * 50_000, "no TOML"),
    ],
    ids=lambda text: text[:40],
)
def test_a_mistake_is_one_line_that_names_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    path = recipe_file(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert named in message
    assert str(path) in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'openvino_scheme = "\xe9"')
    with pytest.raises(UsageError, match="no TOML"):
        load_recipe(tmp_path / "latin.toml")


def test_a_default_that_lost_a_key_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe_file(tmp_path, "samples = 300\n")
    monkeypatch.setattr("edge_van.quantization.recipe.asset", lambda _: path)
    with pytest.raises(UsageError, match="lacks equalize_strength"):
        load_recipe()
