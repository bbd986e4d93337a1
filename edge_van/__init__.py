"""Visual Attention Networks on edge devices, in INT8, with the accuracy and the latency proved.

    import edge_van

    bundle = edge_van.quantize("van.pth", data="imagenet/val", calibration="imagenet/train")
    with edge_van.open_classifier(bundle) as classify:
        print(classify("cat.jpg").top1)

What the command line does, a program does with the functions of the same names. Nothing is imported before it is used:
``import edge_van`` loads no torch and no inference engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_van.version import __version__ as __version__

if TYPE_CHECKING:
    from edge_van.bundle.budget_record import Budget as Budget
    from edge_van.bundle.budget_record import BudgetRecord as BudgetRecord
    from edge_van.bundle.bundle import Bundle as Bundle
    from edge_van.bundle.bundle import open_bundle as open_bundle
    from edge_van.bundle.models import BundleModel as BundleModel
    from edge_van.bundle.recipe import QATSettings as QATSettings
    from edge_van.bundle.recipe import Recipe as Recipe
    from edge_van.bundle.records import Accuracy as Accuracy
    from edge_van.bundle.records import Manifest as Manifest
    from edge_van.deployment.fleet import FleetOptions as FleetOptions
    from edge_van.deployment.fleet import deploy_fleet as deploy_fleet
    from edge_van.deployment.pull import Pulled as Pulled
    from edge_van.deployment.pull import PullOptions as PullOptions
    from edge_van.deployment.pull import pull as pull
    from edge_van.deployment.releases import rollback as rollback
    from edge_van.deployment.rollout import Deployed as Deployed
    from edge_van.deployment.rollout import DeployOptions as DeployOptions
    from edge_van.deployment.rollout import deploy as deploy
    from edge_van.deployment.signing import sign as sign
    from edge_van.engines.build import BuiltEngines as BuiltEngines
    from edge_van.engines.build import build as build
    from edge_van.engines.target import EnginesOptions as EnginesOptions
    from edge_van.errors import AccuracyGateError as AccuracyGateError
    from edge_van.errors import BundleError as BundleError
    from edge_van.errors import CheckpointError as CheckpointError
    from edge_van.errors import DataError as DataError
    from edge_van.errors import DeviceError as DeviceError
    from edge_van.errors import EdgeVanError as EdgeVanError
    from edge_van.errors import LatencyGateError as LatencyGateError
    from edge_van.errors import MissingRuntimeError as MissingRuntimeError
    from edge_van.errors import UsageError as UsageError
    from edge_van.errors import VerificationError as VerificationError
    from edge_van.evaluation.bundle import ValidateOptions as ValidateOptions
    from edge_van.evaluation.bundle import validate as validate
    from edge_van.evaluation.sensitivity import SensitivityOptions as SensitivityOptions
    from edge_van.evaluation.sensitivity import sensitivity as sensitivity
    from edge_van.evaluation.sensitivity_record import Sensitivity as Sensitivity
    from edge_van.head import Head as Head
    from edge_van.input_spec import InputSpec as InputSpec
    from edge_van.pipeline import quantize as quantize
    from edge_van.prediction.answers import Prediction as Prediction
    from edge_van.prediction.classifier import Classification as Classification
    from edge_van.prediction.classifier import Classifier as Classifier
    from edge_van.prediction.classifier import open_classifier as open_classifier
    from edge_van.prediction.predict import PredictOptions as PredictOptions
    from edge_van.prediction.predict import predict as predict
    from edge_van.prediction.scores import ClassScore as ClassScore
    from edge_van.progress import Terminal as Terminal
    from edge_van.progress import Work as Work
    from edge_van.reports.collect import ReportOptions as ReportOptions
    from edge_van.reports.report import WrittenReport as WrittenReport
    from edge_van.reports.report import report as report
    from edge_van.resizing import resize as resize
    from edge_van.serving.base import ExportedServer as ExportedServer
    from edge_van.serving.base import ServerOptions as ServerOptions
    from edge_van.serving.export import export_server as export_server
    from edge_van.starting_point import QuantizeOptions as QuantizeOptions
    from edge_van.timing.benchmark import benchmark as benchmark
    from edge_van.timing.record import BenchmarkResult as BenchmarkResult
    from edge_van.timing.record import BenchmarkSettings as BenchmarkSettings
    from edge_van.timing.run import BenchmarkOptions as BenchmarkOptions
    from edge_van.training.settings import TrainSettings as TrainSettings
    from edge_van.training.settings import load_train_settings as load_train_settings
    from edge_van.training.train import TrainOptions as TrainOptions
    from edge_van.training.train import TrainResult as TrainResult
    from edge_van.training.train import train as train

_HOMES = {
    "bundle.budget_record": ("Budget", "BudgetRecord"),
    "bundle.bundle": ("Bundle", "open_bundle"),
    "bundle.models": ("BundleModel",),
    "bundle.recipe": ("QATSettings", "Recipe"),
    "bundle.records": ("Accuracy", "Manifest"),
    "deployment.fleet": ("FleetOptions", "deploy_fleet"),
    "deployment.pull": ("PullOptions", "Pulled", "pull"),
    "deployment.releases": ("rollback",),
    "deployment.rollout": ("DeployOptions", "Deployed", "deploy"),
    "deployment.signing": ("sign",),
    "engines.build": ("BuiltEngines", "build"),
    "engines.target": ("EnginesOptions",),
    "errors": (
        *("AccuracyGateError", "BundleError", "CheckpointError", "DataError", "DeviceError", "EdgeVanError"),
        *("LatencyGateError", "MissingRuntimeError", "UsageError", "VerificationError"),
    ),
    "evaluation.bundle": ("ValidateOptions", "validate"),
    "evaluation.sensitivity": ("SensitivityOptions", "sensitivity"),
    "evaluation.sensitivity_record": ("Sensitivity",),
    "head": ("Head",),
    "input_spec": ("InputSpec",),
    "pipeline": ("quantize",),
    "prediction.answers": ("Prediction",),
    "prediction.classifier": ("Classification", "Classifier", "open_classifier"),
    "prediction.predict": ("PredictOptions", "predict"),
    "prediction.scores": ("ClassScore",),
    "progress": ("Terminal", "Work"),
    "reports.collect": ("ReportOptions",),
    "reports.report": ("WrittenReport", "report"),
    "serving.base": ("ExportedServer", "ServerOptions"),
    "serving.export": ("export_server",),
    "starting_point": ("QuantizeOptions",),
    "resizing": ("resize",),
    "timing.record": ("BenchmarkResult", "BenchmarkSettings"),
    "timing.benchmark": ("benchmark",),
    "timing.run": ("BenchmarkOptions",),
    "training.settings": ("TrainSettings", "load_train_settings"),
    "training.train": ("TrainOptions", "TrainResult", "train"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Accuracy",
    "AccuracyGateError",
    "BenchmarkOptions",
    "BenchmarkResult",
    "BenchmarkSettings",
    "Budget",
    "BudgetRecord",
    "BuiltEngines",
    "Bundle",
    "BundleError",
    "BundleModel",
    "CheckpointError",
    "ClassScore",
    "Classification",
    "Classifier",
    "DataError",
    "DeployOptions",
    "Deployed",
    "DeviceError",
    "EdgeVanError",
    "EnginesOptions",
    "ExportedServer",
    "FleetOptions",
    "Head",
    "InputSpec",
    "LatencyGateError",
    "Manifest",
    "MissingRuntimeError",
    "PredictOptions",
    "Prediction",
    "PullOptions",
    "Pulled",
    "QATSettings",
    "QuantizeOptions",
    "Recipe",
    "ReportOptions",
    "Sensitivity",
    "SensitivityOptions",
    "ServerOptions",
    "Terminal",
    "TrainOptions",
    "TrainResult",
    "TrainSettings",
    "UsageError",
    "ValidateOptions",
    "VerificationError",
    "Work",
    "WrittenReport",
    "__version__",
    "benchmark",
    "build",
    "deploy",
    "deploy_fleet",
    "export_server",
    "load_train_settings",
    "open_bundle",
    "open_classifier",
    "predict",
    "pull",
    "quantize",
    "report",
    "resize",
    "rollback",
    "sensitivity",
    "sign",
    "train",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edge_van' has no attribute {name!r}")
    value = getattr(import_module(f"edge_van.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
