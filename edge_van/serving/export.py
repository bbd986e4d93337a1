"""``export_server``: a bundle as a folder that a model server loads as it is.

In: a bundle, a server's name, a folder. Out: the folder, whole or not at all, and the ``ExportedServer`` record of it.
"""

from __future__ import annotations

from pathlib import Path

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.bundle.files import file_entry, walk
from edge_van.bundle.models import BundleModel
from edge_van.bundle.records import FileEntry
from edge_van.bundle.whole import require_fitting
from edge_van.errors import EdgeVanError, UsageError
from edge_van.progress import UNWATCHED, Work
from edge_van.serving.base import (
    RECORD_FORMAT,
    RECORD_NAME,
    RECORD_VERSION,
    SERVERS,
    VERSION,
    ExportedServer,
    Served,
    ServerOptions,
    chosen,
)
from edge_van.storage.folders import clear_errors, free_space_check, require_writable, write_durably
from edge_van.storage.json_format import encode
from edge_van.storage.new_folder import NewFolder
from edge_van.text import first_names
from edge_van.version import __version__


def export_server(
    bundle: Bundle | str | Path,
    to: str,
    output: str | Path,
    *,
    options: ServerOptions | None = None,
    force: bool = False,
    work: Work = UNWATCHED,
) -> ExportedServer:
    """Write ``output``: a model repository for the server ``to``, "ovms" or "triton", and a compose file.

    The model is the active one where the bundle has one for this machine, else INT8. It takes uint8 (1, H, W, C) and
    gives float32 logits (1, classes), as in the bundle but for the order of the channels (see ``ServerOptions``); an
    engine takes what its graph does. What is written is run on the bundle's golden images before it is put in place.

    ``force`` replaces a folder that an earlier call wrote and nobody added to. Raises ``UsageError`` for an output that
    is in the way and for what the server or the bundle has not, ``BundleError`` for a damaged bundle or a disk that
    cannot be written, ``VerificationError`` for other logits than the bundle's, ``MissingRuntimeError`` without
    OpenVINO.
    """
    if to not in SERVERS:
        raise UsageError(f"{to!r} is no server that is known; there are {', '.join(SERVERS)}")
    bundle = as_bundle(bundle)
    require_fitting(bundle)
    served = chosen(bundle, to, options or ServerOptions())
    place = _resolved(Path(output), bundle)
    new = NewFolder(place, check=lambda: _check_output(place, force))
    with clear_errors(place):
        _check_output(place, force)
        free_space_check(place, sum(e.size_bytes for e in bundle.manifest.files if e.path in served.model.files))
    with new, work.reporter.stage("Writing and checking the repository"):
        record = _written(served, to, new.path)
        write_durably(new.path / RECORD_NAME, encode(record))
        for path in (new.path, *new.path.rglob("*")):  # a server runs as a user of its own
            path.chmod(0o755 if path.is_dir() else 0o644)
        new.put_in_place(lambda there: _check_replaceable(there, place, force))
    return record


def _written(served: Served, to: str, folder: Path) -> ExportedServer:
    from edge_van.serving.openvino_ir import IR, tensors_of
    from edge_van.serving.ovms import write_ovms
    from edge_van.serving.triton import engine_tensors, write_triton

    measured, notes = write_ovms(served, folder) if to == "ovms" else write_triton(served, folder)
    model: BundleModel = served.model
    inputs, outputs = engine_tensors(served) if model.is_engine else tensors_of(folder / served.place / VERSION / IR)
    return ExportedServer(
        schema_version=RECORD_VERSION,
        edge_van_version=__version__,
        server=to,
        name=served.name,
        file=model.file,
        precision=served.precision,
        source_order=served.source_order,
        inputs=inputs,
        outputs=outputs,
        files=tuple(file_entry(folder, name) for name, _ in walk(folder)),
        golden_sqnr_db=measured,
        notes=(*notes, *_of_head(served)),
        head=served.bundle.manifest.head,
    )


def _of_head(served: Served) -> tuple[str, ...]:
    """What a client has to do that takes every network's logits for a softmax's."""
    activation = served.bundle.manifest.head.activation
    if activation == "softmax":
        return ()
    how = "by a sigmoid each" if activation == "sigmoid" else "no probabilities"
    return (f"the logits become {how}: the head of the bundle is {activation}",)


def _is_as_written(folder: Path, name: str, entry: FileEntry) -> bool:
    """A file that is gone is nobody's work."""
    return not (folder / name).exists() or file_entry(folder, name) == entry


def _resolved(output: Path, bundle: Bundle) -> Path:
    place = output.resolve() if output.name in ("", "..") else output.parent.resolve() / output.name
    if place.is_relative_to(bundle.path.resolve()):
        raise UsageError(f"{output} lies in the bundle, whose files are listed: choose another --output")
    return place


def _check_output(place: Path, force: bool) -> None:
    parent = next((p for p in place.parents if p.exists()), place)
    if not parent.is_dir():
        raise UsageError(f"{place} cannot be made, {parent} is a file: choose another --output")
    if place.exists() or place.is_symlink():
        _check_replaceable(place, place, force)
    require_writable(parent, place)


def _check_replaceable(there: Path, place: Path, force: bool) -> None:
    """``there`` is what stands in the output's place, by its own name or moved aside."""
    if not force:
        raise UsageError(f"{place} exists: give --force to replace that export, or choose another --output")
    if there.is_symlink() or not there.is_dir():
        raise UsageError(f"{place} is no folder but a file or a link, and is not replaced: choose another --output")
    if not any(there.iterdir()):
        return
    try:
        record = RECORD_FORMAT.read(there / RECORD_NAME)
    except EdgeVanError:
        raise UsageError(
            f"{place} was not written by edge-van export-server and is not replaced, even with --force: choose another "
            f"--output"
        ) from None
    listed = {entry.path: entry for entry in record.files}
    if changed := [name for name, entry in listed.items() if not _is_as_written(there, name, entry)]:
        raise UsageError(
            f"{place} has files that were changed since they were exported ({first_names(changed, 3)}) and is not "
            f"replaced, even with --force: move them away, or choose another --output"
        )
    if others := [name for name, _ in walk(there) if name not in listed and name != RECORD_NAME]:
        raise UsageError(
            f"{place} holds files that were not exported ({first_names(others, 3)}) and is not replaced, even with "
            f"--force: move them away, or choose another --output"
        )
