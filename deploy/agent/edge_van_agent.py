#!/usr/bin/env python3
"""What runs on a device: looks at it, takes files, builds, checks and times models, and makes one of them active.

In: a verb with flags, or requests as JSON lines on standard input (``serve``). Out: JSON lines on standard output, the
last one of each request a result or a refusal. Standard library alone, Python 3.8 and newer; OpenVINO is imported where
an OpenVINO model is run, in a process of its own, and so is edge-van where the target says that the device has it.
Everything the agent keeps lies under one folder:

    blobs/SHA256             files, whole and checked; SHA256.part while one arrives
    deployments/ID/          request.json, state.json, and a folder a candidate: its files (links to the blobs) as they
                             lie in the bundle, manifest.json and active.json, so that it is a bundle with one model
    deployments/ID/.work/    a folder a candidate: logs, and what its builds, checks and timings leave
    releases/N-ID-CANDIDATE  a link to a candidate's folder
    before.json              which release was active before each
    newest.json              the highest release of a signed bundle that ever was active
    allowed_signers          whose signatures count, where only signed bundles do; /etc/edge-van has it before this one
    current                  a link to the release that is active
    timing.cache, lock
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import math
import os
import platform
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

VERSION = "1"
CHUNK = 1 << 20
BUILD_TIMEOUT_S, CHECK_TIMEOUT_S = 3600, 1800
IDLE_S = 900  # without a word from a host it is gone: its network may be, and tells nobody
WATCH_S = 0.5
RESERVED = ("engine", "engine.json")  # what the agent itself puts beside a bundle's files
LEAST_SAMPLES = 10
TRTEXEC = Path("/usr/src/tensorrt/bin/trtexec")
SIGNERS, SIGNED, MANIFEST, NEWEST = "allowed_signers", "signed.json", "manifest.json", "newest.json"
TRUST = Path("/etc/edge-van") / SIGNERS  # of the whole device, which its root alone changes
PRINCIPAL = NAMESPACE = "edge-van"
LIST_NAMESPACE = "edge-van-keys"  # of lists of keys: a release's signature is none of a list's
ENGINE = "engine/model.engine"
ONNX_FLAG = "--onnx={folder}/"
TRTEXEC_WORD = re.compile(  # of a signed bundle: nothing that loads code, another engine, or writes elsewhere
    r"--(saveEngine=\{engine\}|loadEngine=\{engine\}|exportLayerInfo=\{work\}/layers\.json|exportTimes=\{times\}"
    r"|timingCacheFile=\{cache\}|warmUp=\{warm_up_ms\}|duration=\{seconds\}|iterations=\d+|profilingVerbosity=\w+"
    r"|(min|opt|max)Shapes=\w+:[\dx]+|buildOnly|skipInference|int8|fp16|stronglyTyped|noTF32|useCudaGraph|useSpinWait"
    r"|noDataTransfers)\Z"
)
SIGN_TIMEOUT_S = 60


class RefusedError(Exception):
    """What cannot be done, in one line, and what to do about it. ``kind`` is for programs."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


def say(event, **values):
    """A line to whoever asked."""
    sys.stdout.write(json.dumps(dict(event=event, **values), sort_keys=True) + "\n")
    sys.stdout.flush()


# --- the device ------------------------------------------------------------------------------------------------------


def probe(root, paths):
    """What the device is. Of what it does not have, None; ``errors`` say why of the runtimes."""
    tensorrt = tensorrt_error = openvino = openvino_error = tensorrt_rtx = tensorrt_rtx_error = None
    if "trtexec" in paths:
        said, tensorrt_error = _program([paths["trtexec"], "--help"])
        tensorrt = tensorrt_version(said)
        tensorrt_error = None if tensorrt else tensorrt_error or _last(said)
    if "python" in paths:
        try:
            openvino = in_openvino(paths, {"about": True}, 300)
        except RefusedError as error:
            openvino_error = str(error)
    if "edge_van" in paths:
        try:
            tensorrt_rtx = in_edge_van(paths, {"about": "tensorrt_rtx"}, 300)
        except RefusedError as error:
            tensorrt_rtx_error = str(error)
    errors = {"tensorrt": tensorrt_error, "openvino": openvino_error, "tensorrt_rtx": tensorrt_rtx_error}
    return {
        "agent": VERSION,
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "system": _release(),
        "module": _text("/proc/device-tree/model"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "l4t": l4t(_text(paths.get("tegra_release", "/etc/nv_tegra_release"))),
        "jetpack": _package("nvidia-jetpack"),
        "cuda": _cuda(paths.get("cuda", "/usr/local/cuda")),
        "gpu": _said(["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]),
        "tensorrt": tensorrt,
        "openvino": openvino,
        "tensorrt_rtx": tensorrt_rtx,
        "errors": {name: text for name, text in errors.items() if text},
        "memory_bytes": _memory("MemTotal"),
        "memory_free_bytes": _memory("MemAvailable"),
        "disk_free_bytes": shutil.disk_usage(str(_existing(root))).free,
        "power_mode": power_mode(_said([paths["nvpmodel"], "-q"])) if "nvpmodel" in paths else None,
        "clocks": _said([paths["jetson_clocks"], "--show"]) if "jetson_clocks" in paths else None,
        "temperatures_c": temperatures(),
        "time_s": time.time(),
    }


def l4t(text):
    """ "36.4.3" of "# R36 (release), REVISION: 4.3, ..."."""
    match = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text or "")
    return match and f"{match.group(1)}.{match.group(2)}"


def tensorrt_version(text):
    """ "10.3.0" of "... [TensorRT v100300] ...": two digits a part from 10 on, one before."""
    match = re.search(r"\[TensorRT v(\d+)\]", text or "")
    if not match:
        return None
    number = int(match.group(1))
    if number >= 10000:
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"


def power_mode(text):
    """ "MAXN" of "NV Power Mode: MAXN" and the line with its number."""
    match = re.search(r"NV Power Mode:\s*(.+)", text or "")
    return match and match.group(1).strip()


def temperatures():
    """Degrees by the name of the thermal zone."""
    found = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        name, value = _text(zone / "type"), _text(zone / "temp")
        if name and value and re.match(r"-?\d+$", value) and int(value) > -100000:  # a sensor that is off: -256000
            found[name] = int(value) / 1000.0
    return found


def _text(path):
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _said(command):
    """What a program prints; None where it is not there, fails or hangs."""
    return _program(command, passed=True)[0]


def _program(command, passed=False, timeout_s=60):
    """(what it prints, None), or (None, why there is nothing); with ``passed`` it must end well."""
    try:
        done = child(command, timeout_s, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    except OSError as error:
        return None, f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return None, f"{command[0]} was not done after {timeout_s} s"
    said = done.stdout.decode("utf-8", "replace").strip()
    return (None, _last(said)) if passed and done.returncode else (said, None)


def _last(text):
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _release():
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text("/etc/os-release") or "", re.M)
    return match and match.group(1)


def _cpu():
    """The name, and what decides on kernels: the flags of x86, the features of ARM."""
    text = _text("/proc/cpuinfo") or ""
    name = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.M)
    part = re.search(r"^CPU part\s*:\s*(.+)$", text, re.M)
    return {
        "name": name and name.group(1),
        "part": part and part.group(1),
        "features": sorted(flags.group(1).split()) if flags else [],
    }


def _package(name):
    return _said(["dpkg-query", "--show", "--showformat=${Version}", name])


def _cuda(folder):
    try:
        return json.loads((Path(folder) / "version.json").read_text(encoding="utf-8"))["cuda"]["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _memory(key):
    match = re.search(rf"^{key}:\s*(\d+) kB", _text("/proc/meminfo") or "", re.M)
    return match and int(match.group(1)) * 1024


def _existing(path):
    path = Path(path)
    while not path.exists():
        path = path.parent
    return path


# --- programs --------------------------------------------------------------------------------------------------------


def child(command, timeout_s, given=None, **pipes):
    """Run a program that ends with the agent, and with the host that asked for it."""
    process = subprocess.Popen(
        command, preexec_fn=_die_with_parent, **pipes
    )  # the agent has no other thread that locks
    done = threading.Event()
    watcher = threading.Thread(target=_kill_without_host, args=(process, done), daemon=True)
    watcher.start()
    try:
        out, err = process.communicate(given, timeout_s)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    finally:
        done.set()
        watcher.join()
    if host_is_gone():
        raise RefusedError("cut", "the host is gone")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


_LIBC = ctypes.CDLL(None)


def _die_with_parent():
    _LIBC.prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG


def _kill_without_host(process, done):
    while not done.wait(WATCH_S):
        if host_is_gone():
            process.kill()
            return


SERVING = threading.Event()


def host_is_gone():
    """Whether nobody is at the other end of standard input any more; a file or terminal there tells nothing."""
    if not SERVING.is_set():
        return False
    poll = select.poll()
    poll.register(0, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


# --- files -----------------------------------------------------------------------------------------------------------


class Store:
    """What the agent keeps, under ``root``. Whatever has its name is whole: all is made beside it and renamed."""

    def __init__(self, root):
        self.root = Path(root).expanduser().absolute()
        self.blobs, self.deployments = self.root / "blobs", self.root / "deployments"
        self.releases, self.current = self.root / "releases", self.root / "current"

    def make(self):
        for folder in (self.blobs, self.deployments, self.releases):
            folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def alone(self):
        """One at a time: the lock goes with the process, so a connection that is cut frees it."""
        self.make()
        with (self.root / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RefusedError(
                    "busy", "another deploy is at work on this device: try again when it is done"
                ) from None
            yield

    def missing(self, files):
        """Of ``{sha256: bytes}`` those that are not there, with how many bytes of each have arrived; room for them."""
        left = {}
        for digest, size in files.items():
            part = self._part(digest)
            if not self._is_whole(digest, size):
                arrived = part.stat().st_size if part.exists() else 0
                left[digest] = min(arrived, size)
        needed = sum(files[digest] - arrived for digest, arrived in left.items())
        free = shutil.disk_usage(str(self.root)).free
        if needed > free:
            raise RefusedError(
                "disk",
                f"{free >> 20} MB are free under {self.root}, {(needed >> 20) + 1} are needed: free some, or remove "
                f"what is not active with edge-van device prune",
            )
        return left

    def receive(self, digest, size, source):
        """Append to what has arrived; whole and as its name says, it becomes a blob, else it is thrown away."""
        part = self._part(digest)
        with part.open("ab") as file:
            while file.tell() < size:
                data = heard(source.read1, min(CHUNK, size - file.tell()))
                if not data:
                    raise RefusedError("cut", f"{file.tell()} of {size} bytes arrived")
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if part.stat().st_size != size or sha256_of(part) != digest:
            part.unlink()
            raise RefusedError("checksum", f"what arrived is not {digest}: it is thrown away, send it again")
        part.replace(self.blobs / digest)
        sync(self.blobs)

    def _forget(self, identity, names):
        deployment = Deployment(self, identity, {})
        for name in names:
            deployment.state["candidates"].pop(name, None)
        write_json(deployment.folder / "state.json", deployment.state)

    def signers(self):
        """The file with the keys that this device trusts; None where any bundle is taken."""
        return next((path for path in (TRUST, self.root / SIGNERS) if is_there(path)), None)

    def trust(self, signers, signature):
        """Only what these keys sign is taken from now on. New keys are taken from who has one of those before, and no
        list that is not newer than the one there."""
        if is_there(TRUST):
            raise RefusedError("trust", f"{TRUST} says whom this device trusts: whoever is root there changes it")
        number = signers_number(signers)
        there = self.signers()
        if there is not None:
            self.require_signature(signers, signature, "the list of keys", LIST_NAMESPACE)
            if number <= signers_number(there.read_text(encoding="utf-8")):
                raise RefusedError("older", "this list of keys is not newer than the one there: send it anew")
        write_text(self.root / SIGNERS, signers)
        return str(self.root / SIGNERS)

    def require_signature(self, text, signature, called, namespace=NAMESPACE):
        """``RefusedError`` unless one of the trusted keys signed ``text``."""
        if not signature:
            raise RefusedError(
                "unsigned", f"this device takes what a key it trusts has signed, and {called} is not signed: sign it"
            )
        place = self.root / ".signature"  # the agent is alone here
        write_text(place, signature)
        try:
            by = _ssh_keygen(["check-novalidate", "-n", namespace, "-s", str(place)], text)
            if by.returncode:
                raise RefusedError("altered", f"{called} is not what was signed ({_last(by.said)}): sign it again")
            words = ["verify", "-n", namespace, "-f", str(self.signers()), "-I", PRINCIPAL, "-s", str(place)]
            if _ssh_keygen(words, text).returncode:
                key = re.search(r"SHA256:\S+", by.said)
                raise RefusedError(
                    "untrusted",
                    f"{called} is signed by the key {key.group(0) if key else _last(by.said)}, which is none that "
                    f"this device trusts",
                )
        finally:
            place.unlink()

    def require_signed(self, signed, identity, request, called):
        """``RefusedError`` unless a trusted key signed this release, and it is what ``request`` is made of."""
        if self.signers() is None:
            return
        signed = signed or {}
        release, manifest = str(signed.get("release", "")), str(signed.get("manifest", ""))
        self.require_signature(release, signed.get("signature"), called)
        said = json.loads(release)
        if hashlib.sha256(manifest.encode("utf-8")).hexdigest() != said["manifest_sha256"]:
            raise RefusedError("altered", f"{called} has another manifest than the signed one: sign it again")
        if identity_of(request) != identity:  # what was found out under this name is not of this request
            raise RefusedError("altered", f"{called} has a name that is not its own: deploy it again")
        unsigned = self._unsigned(request, json.loads(manifest), set(said.get("derived_sha256", ())))
        if unsigned:
            raise RefusedError(
                "altered",
                f"{unsigned} is not of what was signed: after edge-van build, and for another version of edge-van, a "
                f"bundle is signed again",
            )

    def _unsigned(self, request, manifest, known):
        """The first part of a candidate that the signed manifest does not answer for; None where it does for all."""
        listed = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
        plans = {e["plan_sha256"] for target in manifest.get("engines", {}).values() for e in target["engines"]}
        for _, candidate in sorted(request["candidates"].items()):
            files, images = candidate["files"], candidate["images"]
            if MANIFEST not in files or set(candidate["texts"]) != {"active.json"}:
                return MANIFEST if MANIFEST not in files else "a text of the request"
            signed = set()
            for path, digest in sorted(files.items()):
                if path == MANIFEST:
                    is_ours = self._is_part(self.blobs / checked_digest(digest), manifest)
                elif path in listed:
                    is_ours = listed[path] == digest
                else:
                    is_ours = digest in (plans if path.endswith("/model.engine") else known)
                if is_ours:
                    signed.add(path)
                    continue
                # what says of an engine how it was built, and images for the check: neither is run
                beside = path.rpartition("/")[0] + "/model.engine"
                is_record = path.endswith("/engine.json") and files.get(beside) in plans
                if path in listed or not (is_record or path == images):
                    return path
            for path in self._runs(candidate):
                if path not in signed:
                    return path
        return None

    @staticmethod
    def _runs(candidate):
        """What a runtime is given of a candidate, weights included."""
        active = json.loads(candidate["texts"]["active.json"])["file"]
        runs = [candidate["model"]] if "model" in candidate else []
        if "build" in candidate or "engine" in candidate:
            is_usual = candidate.get("engine") == ENGINE == active and candidate["runtime"] == "tensorrt"
            sources = [word for word in candidate["build"] if word.startswith(ONNX_FLAG)]
            words = [word for word in [*candidate["build"], *candidate["bench"]] if word not in sources[:1]]
            strange = [word for word in words if not TRTEXEC_WORD.match(word)]
            if not is_usual or strange or not sources:
                return [strange[0] if strange else str(candidate.get("engine"))]
            runs.append(sources[0][len(ONNX_FLAG) :])
        else:
            runs.append(active)
        return runs + [path[: -len("xml")] + "bin" for path in runs if path.endswith(".xml")]

    @staticmethod
    def _is_part(path, manifest):
        """Whether a candidate's manifest says what the bundle's does, of fewer files."""
        part = read_json(path)
        same = set(manifest) - {"files", "engines"}
        return set(part) == set(manifest) and all(part[key] == manifest[key] for key in same)

    def require_no_older(self, signed):
        """``RefusedError`` for a release under the highest that ever was active: an old bundle that was once signed
        stays signed. Whichever keys are trusted by now, and also after a rollback."""
        if self.signers() is None:
            return
        number, new = self._newest(), json.loads(signed["release"])["release"]
        if number is not None and new < number:
            raise RefusedError(
                "older", f"it is release {new}, and {number} was active: to go back, roll back; or sign it as a new one"
            )

    def _newest(self):
        """None where no signed release was active, as far as is known."""
        place, active = self.root / NEWEST, self.active()
        if is_there(place):
            number = read_json(place).get("release")
            if type(number) is not int:
                raise RefusedError(
                    "damaged",
                    f"{place} cannot be read, which has the newest release: remove it if this is no older one",
                )
            return number
        there = read_json(self.deployments / active[1] / SIGNED) if active else {}
        try:
            self.require_signature(str(there.get("release", "")), there.get("signature"), "the active release")
        except RefusedError:  # from before this key was trusted: its number is nobody's word
            return None
        return json.loads(there["release"])["release"]

    def install(self, identity, request, signed=None):
        """The deployment's folder, made of blobs. One that is there keeps what was found out about it, but for a
        candidate with a file that is no longer the blob: that file was damaged, and the candidate starts anew."""
        folder = self.deployments / checked_name(identity)
        self.require_signed(signed, identity, request, "the bundle")
        self.require_no_older(signed)
        fresh = not folder.is_dir()
        place = self.deployments / f".{identity}.{os.getpid()}" if fresh else folder
        if fresh:
            shutil.rmtree(str(place), ignore_errors=True)
        changed = [
            name for name, c in sorted(request["candidates"].items()) if self._fill(place / checked_name(name), c)
        ]
        write_json(place / "request.json", request)
        write_json(place / SIGNED, signed or {})
        if fresh:
            place.replace(folder)
            sync(self.deployments)
        elif changed:
            self._forget(identity, changed)
        self._mend()
        return folder

    def _mend(self):
        """A blob that was damaged was so in every deployment that has it: each gets the one that is there now, as it
        was when its candidate was checked."""
        for request in sorted(self.deployments.glob("[!.]*/request.json")):
            for name, candidate in read_json(request).get("candidates", {}).items():
                for relative, digest in sorted(candidate["files"].items()):
                    target, blob = request.parent / checked_name(name) / checked_path(relative), self.blobs / digest
                    if blob.exists() and not self._is_linked(digest, target):
                        self._link(digest, target)

    def _is_linked(self, digest, target):
        """Whether the name leads to the blob, or to a copy that is whole."""
        if not target.exists():
            return False
        blob = self.blobs / checked_digest(digest)
        return (blob.exists() and target.samefile(blob)) or sha256_of(target) == digest

    def _fill(self, folder, candidate):
        """Whether a file or text of the candidate was missing or another."""
        changed = False
        for relative, digest in sorted(candidate["files"].items()):
            if relative.split("/")[0] in RESERVED:
                raise RefusedError("request", f"{relative!r} is a name of the agent's own")
            target = folder / checked_path(relative)
            if self._is_linked(digest, target):
                continue
            self._link(digest, target)
            changed = True
        for relative, text in sorted(candidate["texts"].items()):
            target = folder / checked_path(relative)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_text(encoding="utf-8") != text:
                write_text(target, text)
                changed = True
        return changed

    def _link(self, digest, target):
        """The blob under a name in a deployment, in one step."""
        blob, link = self.blobs / checked_digest(digest), beside(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        try:
            os.link(str(blob), str(link))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP):
                raise
            shutil.copyfile(str(blob), str(link))  # a file system without hard links
        link.replace(target)

    def _part(self, digest):
        return self.blobs / (checked_digest(digest) + ".part")

    def _is_whole(self, digest, size):
        """By its bytes, not by its name: a card that wears out changes files in place."""
        path = self.blobs / digest
        if not path.exists():
            return False
        if path.stat().st_size == size and sha256_of(path) == digest:
            return True
        path.unlink()
        return False

    # --- what is active

    def active(self):
        """(name of the release, its deployment, its candidate), or None."""
        try:
            name = Path(os.readlink(str(self.current))).name
        except OSError:
            return None
        return self.release(name)

    def release(self, name):
        try:
            target = os.readlink(str(self.releases / name))
        except OSError:
            return None
        parts = Path(target).parts
        is_ours = len(parts) == 4 and parts[:2] == ("..", "deployments")
        return (name, parts[2], parts[3]) if is_ours and (self.releases / name / ".").exists() else None

    def history(self):
        """Every release that is whole, the latest last."""
        names = [p.name for p in self.releases.iterdir() if re.match(r"\d+-", p.name)] if self.releases.is_dir() else []
        found = (self.release(name) for name in sorted(names, key=lambda n: int(n.split("-")[0])))
        return [release for release in found if release]

    def activate(self, identity, candidate):
        """In one step: ``current`` is the old release or the new one, never neither."""
        folder = self.deployments / checked_name(identity) / checked_name(candidate)
        state = read_json(folder.parent / "state.json")
        if not state.get("candidates", {}).get(candidate, {}).get("check", {}).get("passed"):
            raise RefusedError(
                "unchecked", f"{candidate} of {identity} has not passed its check: it does not become active"
            )
        deployment = Deployment(self, identity, {})
        deployment.require_whole(candidate)
        signed = read_json(folder.parent / SIGNED)
        self.require_signed(signed, identity, deployment.request, "the bundle")
        self.require_no_older(signed)
        if self.signers() is not None:
            write_json(self.root / NEWEST, {"release": json.loads(signed["release"])["release"]})
        history, active = self.history(), self.active()
        if active and active[1:] == (identity, candidate):
            return active[0]
        number = 1 + max([int(name.split("-")[0]) for name, _, _ in history] or [0])
        name = f"{number}-{identity}-{candidate}"
        link_anew(self.releases / name, Path("..") / "deployments" / identity / candidate)
        write_json(self.root / "before.json", dict(self._before(), **{name: active and active[0]}))
        link_anew(self.current, Path("releases") / name)
        return name

    def _before(self):
        """The release that was active before each: not the one with the number before, which may have been bad."""
        return read_json(self.root / "before.json")

    def rollback(self, only_from=None):
        """Back to the release that was active before this one; with ``only_from`` only where that is active."""
        active = self.active()
        if only_from is not None and (active or [None])[0] != only_from:
            raise RefusedError("history", f"{active and active[0]} is active here, not {only_from}: it stays so")
        earlier = active and self.release(self._before().get(active[0]) or "none")
        if not earlier:
            raise RefusedError(
                "history", f"there is no release before {active[0] if active else None}: nothing to go back to"
            )
        deployment = Deployment(self, earlier[1], {})
        deployment.require_whole(earlier[2])
        signed = read_json(deployment.folder / SIGNED)
        self.require_signed(signed, earlier[1], deployment.request, f"the release {earlier[0]}")
        link_anew(self.current, Path("releases") / earlier[0])
        return earlier

    def prune(self, keep):
        """Remove all but the active release and the ``keep`` active before it, and what none of them needs."""
        stays, before, name = [], self._before(), (self.active() or [None])[0]
        while name and name not in stays and len(stays) <= keep:
            stays.append(name)
            name = before.get(name)
        needed = {deployment for release, deployment, _ in self.history() if release in stays}
        removed = []
        for release in self.releases.iterdir():
            if release.name not in stays:
                release.unlink()
                removed.append(release.name)
        write_json(self.root / "before.json", {name: before.get(name) for name in stays})
        digests = set()
        for folder in self.deployments.iterdir():
            if folder.name not in needed:
                shutil.rmtree(str(folder))
                removed.append(folder.name)
                continue
            for candidate in read_json(folder / "request.json").get("candidates", {}).values():
                digests.update(candidate["files"].values())
        for blob in self.blobs.iterdir():
            if blob.name not in digests:
                blob.unlink()
        return sorted(removed)


def is_there(path):
    """Also where it is a link that leads nowhere, or lies where this user may not look: then it counts."""
    try:
        os.lstat(str(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def identity_of(request):
    """The name of a deployment: that of all it is asked for."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:12]


def signers_number(text):
    """The number of a list of keys, which grows; ``RefusedError`` for a text that is no list."""
    lines = text.splitlines()
    number = re.match(r"# list (\d{1,18})\Z", lines[0]) if lines else None
    key = re.compile(r'edge-van namespaces="[a-z,-]+" [a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}\Z')
    if not number or len(lines) < 2 or not all(key.match(line) for line in lines[1:]):
        raise RefusedError("trust", "that is no list of keys: send it with edge-van device trust")
    return int(number.group(1))


def _ssh_keygen(words, text):
    """``ssh-keygen -Y`` on a text; ``said`` is what it prints."""
    try:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = child(["ssh-keygen", "-Y", *words], SIGN_TIMEOUT_S, text.encode("utf-8"), **pipes)
    except OSError as error:
        raise RefusedError("signature", f"ssh-keygen does not run: {error.strerror}: install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise RefusedError("signature", f"ssh-keygen was not done after {SIGN_TIMEOUT_S} s") from None
    done.said = done.stdout.decode("utf-8", "replace")
    if done.returncode and re.search("unknown option|illegal option|usage:", done.said):
        raise RefusedError("signature", "this device's ssh-keygen checks no signatures: OpenSSH 8.2 or newer does")
    return done


def checked_name(name):
    if not re.match(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z", name):
        raise RefusedError("request", f"{name!r} is no name")
    return name


def checked_digest(digest):
    if not re.match(r"[0-9a-f]{64}\Z", digest):
        raise RefusedError("request", f"{digest!r} is no sha256")
    return digest


def checked_path(relative):
    parts = relative.split("/")
    if relative.startswith("/") or "\\" in relative or any(p in ("", ".", "..") for p in parts):
        raise RefusedError("request", f"{relative!r} leads out of the deployment")
    if any(ord(letter) < 32 for letter in relative):
        raise RefusedError("request", f"{relative!r} has letters that no file of a bundle has")
    return Path(*parts)


def sha256_of(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for data in iter(lambda: file.read(CHUNK), b""):
            digest.update(data)
    return digest.hexdigest()


def sync_file(path):
    """What another program wrote is on the disk, too."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync(folder):
    """A rename is on the disk only once its folder is."""
    number = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def beside(path):
    """Where ``path`` is made before it gets its name."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def link_anew(link, target):
    fresh = beside(link)
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(target)
    fresh.replace(link)
    sync(link.parent)


def read_json(path):
    """An object; an empty one where there is none, or where it is broken: it is found out again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path, content):
    write_text(path, json.dumps(content, sort_keys=True, indent=1))


def write_text(path, text):
    """Whole or not at all."""
    fresh = beside(path)
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync(path.parent)


# --- models ----------------------------------------------------------------------------------------------------------


class Deployment:
    """One deployment's folder: what was asked for, what was found out so far, and its candidates."""

    def __init__(self, store, identity, paths):
        self.store, self.identity, self.paths = store, identity, paths
        self.folder = store.deployments / checked_name(identity)
        self.request = read_json(self.folder / "request.json")
        if not self.request:
            raise RefusedError("request", f"{identity} is not installed here")
        self.state = read_json(self.folder / "state.json")
        if not isinstance(self.state.get("candidates"), dict):
            self.state["candidates"] = {}

    def work(self, name):
        """Where the candidate's logs and passing files are: apart from the bundle's, whatever those are called."""
        folder = self.folder / ".work" / checked_name(name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def require_whole(self, name):
        """Before it becomes active: every file of it is still what arrived or was built here."""
        folder, candidate = self.folder / name, self.candidate(name)
        wanted = dict(candidate["files"])
        if "engine" in candidate:
            wanted[candidate["engine"]] = read_json(folder / "engine.json").get("sha256")
        for relative, digest in sorted(wanted.items()):
            path = folder / checked_path(relative)
            if not path.exists() or sha256_of(path) != digest:
                raise RefusedError("damaged", f"{relative} of {name} is damaged on the device: deploy it again")
        for relative, text in sorted(candidate["texts"].items()):
            path = folder / checked_path(relative)
            if not path.exists() or path.read_bytes() != text.encode("utf-8"):
                raise RefusedError("damaged", f"{relative} of {name} is damaged on the device: deploy it again")

    def candidate(self, name):
        if name not in self.request["candidates"]:
            raise RefusedError("request", f"{self.identity} has no candidate {name}")
        return self.request["candidates"][name]

    def record(self, name, what, values):
        """Kept as soon as it is known: a deploy that is cut goes on after it."""
        self.state["candidates"].setdefault(name, {})[what] = values
        write_json(self.folder / "state.json", self.state)
        return values

    def known(self, name, what):
        return self.state["candidates"].get(name, {}).get(what)

    def build(self, name):
        """An engine of the candidate's graph; of one that needs none, nothing."""
        candidate, folder = self.candidate(name), self.folder / name
        known = self.known(name, "build")
        if "build" not in candidate:
            return known or self.record(name, "build", {"passed": True})
        engine, work = folder / candidate["engine"], self.work(name)
        about = read_json(folder / "engine.json")
        if engine.exists() and (work / "layers.json").exists() and sha256_of(engine) == about.get("sha256"):
            values = known if known and known["passed"] else {"passed": True, "sha256": about["sha256"]}
            return dict(self.record(name, "build", values), kept=True)
        engine.parent.mkdir(parents=True, exist_ok=True)
        fresh = engine.with_name("." + engine.name)
        for stale in (fresh, work / "layers.json"):
            with contextlib.suppress(FileNotFoundError):
                stale.unlink()
        flags = filled(
            candidate["build"], folder=folder, work=work, engine=fresh, cache=self.store.root / "timing.cache"
        )
        started = time.monotonic()
        error = run_trtexec(self.paths, flags, work / "build.log", BUILD_TIMEOUT_S)
        if error is None and not (fresh.exists() and (work / "layers.json").exists()):
            error = "trtexec passed and left no engine, or no list of its layers"
        self.state["candidates"].pop(name, None)  # what was found out about another engine
        if error:
            return self.record(name, "build", {"passed": False, "error": error})
        sync_file(fresh)
        values = {"passed": True, "sha256": sha256_of(fresh), "seconds": time.monotonic() - started}
        size = fresh.stat().st_size
        fresh.replace(engine)
        sync(engine.parent)
        about = {"schema_version": 1, "file": candidate["engine"], "sha256": values["sha256"], "size_bytes": size}
        write_json(folder / "engine.json", about)
        return self.record(name, "build", values)

    def check(self, name):
        """The golden images give the golden logits: the same classes, the rest within the noise that is allowed."""
        candidate = self.candidate(name)
        if not (self.known(name, "build") or {}).get("passed"):
            raise RefusedError("unbuilt", f"{name} of {self.identity} is not built")
        known = self.known(name, "check")
        if known and known["passed"]:
            return dict(known, kept=True)
        try:
            logits, kernels = run_golden(self, name, candidate)
        except RefusedError as error:
            return self.record(name, "check", {"passed": False, "error": str(error)})
        error, sqnr_db = compared(logits, self.request["logits"][candidate["golden"]], candidate["floor_db"])
        reference = [layer for layer, kernel in kernels if kernel.startswith("ref")]
        if reference:
            error = (
                f"{len(reference)} of {len(kernels)} layers run in reference kernels on this CPU, the first is "
                f"{reference[0]}"
            )
        values = {"passed": error is None, "error": error, "sqnr_db": sqnr_db, "kernels": kernels}
        return self.record(name, "check", values)


def compared(logits, golden, floor_db):
    """(None where they agree, else in what they do not; their SQNR in dB, None where it is infinite or none)."""
    if len(logits) != len(golden) or any(len(a) != len(b) for a, b in zip(logits, golden)):
        return f"{len(logits)} outputs came for {len(golden)}, or of another length", None
    if not all(abs(value) < 1e30 for ours in logits for value in ours):  # NaN compares false
        return "an output is no number", None
    noise = sum((a - b) ** 2 for ours, theirs in zip(logits, golden) for a, b in zip(ours, theirs))
    power = sum(b**2 for theirs in golden for b in theirs)
    sqnr_db = 10 * math.log10(power / noise) if noise and power else None
    for number, (ours, theirs) in enumerate(zip(logits, golden)):
        top, wanted = ours.index(max(ours)), theirs.index(max(theirs))
        if top != wanted:
            return f"image {number} is class {top}, not {wanted}", sqnr_db
    if noise and (sqnr_db is None or sqnr_db < floor_db):
        return f"its logits are at {sqnr_db or 0.0:.1f} dB SQNR, at least {floor_db:.1f} were expected", sqnr_db
    return None, sqnr_db


def run_golden(deployment, name, candidate):
    """(logits of every golden image, (layer, kernel) where the runtime says them)."""
    folder = deployment.folder / name
    if candidate["runtime"] == "openvino":
        done = in_openvino(deployment.paths, openvino_request(folder, candidate), CHECK_TIMEOUT_S)
        return done["logits"], done["kernels"]
    if candidate["runtime"] == "edge_van":
        return in_edge_van(deployment.paths, edge_van_request(folder, candidate), CHECK_TIMEOUT_S)["logits"], []
    images = folder / candidate["images"]
    count = len(deployment.request["logits"][candidate["golden"]])
    size = images.stat().st_size // count
    work = deployment.work(name)
    one, out = work / "golden.bin", work / "golden.json"
    logits = []
    for number in range(count):  # an engine of batch 1 takes one image a run
        with images.open("rb") as file:
            file.seek(number * size)
            one.write_bytes(file.read(size))
        with contextlib.suppress(FileNotFoundError):
            out.unlink()
        # by its name alone: trtexec takes commas, colons and quotes in a path for its own
        flags = [f"--loadInputs={candidate['input']}:{one.name}", f"--exportOutput={out}"]
        flags += [f"--loadEngine={folder / candidate['engine']}", "--iterations=1", "--warmUp=0", "--duration=0"]
        error = run_trtexec(deployment.paths, flags, work / "check.log", CHECK_TIMEOUT_S, work)
        if error:
            raise RefusedError("runtime", error)
        try:
            [output] = json.loads(out.read_text(encoding="utf-8"))
            logits.append([float(value) for value in output["values"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RefusedError("runtime", f"trtexec's --exportOutput cannot be read: {error!r}") from None
    return logits, []


def filled(flags, **values):
    """The flags with the agent's own paths in place of ``{name}``; whatever else has braces stays as it is."""
    for name, value in values.items():
        flags = [flag.replace("{" + name + "}", str(value)) for flag in flags]
    return flags


# --- TensorRT: by trtexec --------------------------------------------------------------------------------------------


def run_trtexec(paths, flags, log, timeout_s, folder=None):
    """Run it in ``folder``, keep all it says; None where it passed, else its last error."""
    command = [paths["trtexec"], *flags]
    with log.open("wb") as file:
        file.write((" ".join(command) + "\n").encode())
        file.flush()
        try:
            pipes = {"stdout": file, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
            done = child(command, timeout_s, cwd=folder and str(folder), **pipes)
        except OSError as error:
            return f"{command[0]} does not run: {error.strerror}"
        except subprocess.TimeoutExpired:
            return f"trtexec was not done after {timeout_s} s"
    text = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode == 0 and "&&&& PASSED" in text:
        return None
    errors = [line for line in text.splitlines() if "[E]" in line] or text.strip().splitlines()[1:]
    how = f"exit code {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
    said = errors[-1].strip() if errors else "it said nothing"
    return f"trtexec failed ({how}): {said}"


# --- OpenVINO, or edge-van: in the Python that has it, maybe another than the agent's ---------------------------------


def openvino_main(request):
    """What is asked of OpenVINO, in a process of its own: about itself, golden logits, or times."""
    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    import openvino

    core = openvino.Core()
    if request.get("about"):
        can = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        return {"version": openvino.__version__.split("-")[0], "capabilities": can}
    import numpy

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": request["precision"]}
    compiled = core.compile_model(request["model"], "CPU", config)
    infer = compiled.create_infer_request()
    images = numpy.fromfile(request["images"], request["dtype"]).reshape([-1, *request["shape"]])
    if "seconds" not in request:
        logits = [numpy.asarray(infer.infer([image[None]])[0], "f8")[0].tolist() for image in images]
        return {"logits": logits, "kernels": kernels_of(compiled)}
    infer.set_input_tensor(openvino.Tensor(numpy.ascontiguousarray(images[:1]), shared_memory=False))
    until = time.perf_counter() + request["warm_up_s"]
    while time.perf_counter() < until:
        infer.infer()
    samples, until = [], time.perf_counter() + request["seconds"]
    while time.perf_counter() < until or len(samples) < LEAST_SAMPLES:
        started = time.perf_counter()
        infer.infer()
        samples.append(1000.0 * (time.perf_counter() - started))
    return {"samples_ms": samples}


def kernels_of(compiled):
    """(layer, kernel) of every convolution and matrix product, as the runtime itself says after compiling."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, kernel = (str(getattr(info[key], "value", info[key])) for key in ("layerType", "primitiveType"))
        if kind in ("Convolution", "GroupConvolution", "MatMul", "FullyConnected"):
            found.append((node.get_friendly_name(), kernel))
    return found


def openvino_request(folder, candidate, **more):
    values = {key: candidate[key] for key in ("precision", "dtype", "shape")}
    return dict(values, model=str(folder / candidate["model"]), images=str(folder / candidate["images"]), **more)


def in_openvino(paths, request, timeout_s):
    """``openvino_main`` in the target's Python."""
    command = [*paths["python"], str(Path(__file__).resolve()), "openvino"]
    return asked("OpenVINO", command, request, timeout_s)


def edge_van_request(folder, candidate, **more):
    return dict(more, folder=str(folder), images=str(folder / candidate["images"]), shape=candidate["shape"])


def in_edge_van(paths, request, timeout_s):
    """What edge-van itself says of a model that it alone can run, in the target's Python that has it."""
    return asked("edge-van", [*paths["edge_van"], "-m", "edge_van.deployment.on_device"], request, timeout_s)


def asked(whom, command, request, timeout_s):
    """The answer of a process that reads a request and prints one, each as JSON."""
    try:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        # not in a folder that somebody stands in: Python would take modules from it
        done = child(command, timeout_s, json.dumps(request).encode(), cwd="/", **pipes)
    except OSError as error:
        raise RefusedError("runtime", f"{command[0]} does not run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise RefusedError("runtime", f"{whom} was not done after {timeout_s} s") from None
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode != 0:
        raise RefusedError("runtime", f"{whom}: {lines[-1] if lines else f'signal {-done.returncode}'}")
    try:
        return json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    except (ValueError, IndexError):
        raise RefusedError("runtime", f"what {whom}'s process printed is no answer") from None


# --- time ------------------------------------------------------------------------------------------------------------


class Tegrastats:
    """What a Jetson draws and how warm it is while something runs: the lines of ``tegrastats``, once a second."""

    def __init__(self, paths):
        self.command = paths.get("tegrastats")
        self.lines, self.process, self.reader = [], None, None

    def __enter__(self):
        if self.command:
            with contextlib.suppress(OSError):
                self.process = subprocess.Popen(
                    [self.command, "--interval", "1000"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    preexec_fn=_die_with_parent,
                )
                self.reader = threading.Thread(target=self._read, daemon=True)
                self.reader.start()
        return self

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.decode("utf-8", "replace"))

    def __exit__(self, *error):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.reader.join(5)

    def summary(self):
        """Milliwatts by rail and degrees by sensor: (mean, highest) of the lines."""
        return summary_of([parse_tegrastats(line) for line in self.lines])


def parse_tegrastats(line):
    """{"rails_mw": {name: now}, "temperatures_c": {name: degrees}} of one line, of JetPack 5 to 7."""
    rails = {name: int(now) for name, now in re.findall(r"(\w+) (\d+)mW/\d+mW", line)}
    warm = {name: float(value) for name, value in re.findall(r"([\w-]+)@(-?[\d.]+)C", line)}
    return {"rails_mw": rails, "temperatures_c": {n: v for n, v in warm.items() if v > -100}}


def summary_of(rows):
    found = {}
    for kind in ("rails_mw", "temperatures_c"):
        names = sorted({name for row in rows for name in row[kind]})
        values = {name: [row[kind][name] for row in rows if name in row[kind]] for name in names}
        found[kind] = {name: {"mean": statistics.mean(v), "max": max(v)} for name, v in values.items()}
    return found


def bench(deployment, names, rounds, seconds, warm_up_s, settings):
    """Every candidate in turns, there and back: a device that warms up slows all alike. Milliseconds by candidate;
    ``settings`` are kept with them, so that a host knows what they are."""
    samples = {name: [] for name in names}
    errors, before = {}, temperatures()
    with Tegrastats(deployment.paths) as stats:
        for number in range(rounds):
            for name in names if number % 2 == 0 else list(reversed(names)):
                say("progress", candidate=name, round=number + 1, rounds=rounds)
                if name in errors:
                    continue
                try:
                    samples[name] += time_once(deployment, name, seconds, warm_up_s)
                except RefusedError as error:
                    errors[name] = str(error)
    result = {}
    for name in names:
        if name in errors or not samples[name]:
            values = {"passed": False, "error": errors.get(name, "no inference was counted")}
        else:
            ordered = sorted(samples[name])
            p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
            values = {
                "passed": True,
                "median_ms": statistics.median(ordered),
                "p99_ms": p99,
                "count": len(ordered),
                "settings": settings,
            }
        result[name] = deployment.record(name, "bench", values)
    return {"candidates": result, "temperatures_before_c": before, "during": stats.summary()}


def time_once(deployment, name, seconds, warm_up_s):
    """Milliseconds of each inference: wall time on a CPU, trtexec's GPU compute time on a GPU."""
    candidate, folder = deployment.candidate(name), deployment.folder / name
    if candidate["runtime"] == "openvino":
        request = openvino_request(folder, candidate, seconds=seconds, warm_up_s=warm_up_s)
        return in_openvino(deployment.paths, request, CHECK_TIMEOUT_S + seconds + warm_up_s)["samples_ms"]
    if candidate["runtime"] == "edge_van":
        request = edge_van_request(folder, candidate, seconds=seconds, warm_up_s=warm_up_s)
        return in_edge_van(deployment.paths, request, CHECK_TIMEOUT_S + seconds + warm_up_s)["samples_ms"]
    work = deployment.work(name)
    times, engine = work / "times.json", folder / candidate["engine"]
    with contextlib.suppress(FileNotFoundError):
        times.unlink()
    lasting = {"seconds": max(int(seconds), 1), "warm_up_ms": int(1000 * warm_up_s)}
    flags = filled(candidate["bench"], engine=engine, times=times, **lasting)
    error = run_trtexec(deployment.paths, flags, work / "bench.log", CHECK_TIMEOUT_S + seconds + warm_up_s)
    if error:
        raise RefusedError("runtime", error)
    try:
        return [float(row["computeMs"]) for row in json.loads(times.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError("runtime", f"trtexec's --exportTimes cannot be read: {error!r}") from None


# --- requests --------------------------------------------------------------------------------------------------------


def answer(store, paths, request, source):
    """One request; its result. What takes a while says how far it is."""
    verb = request["verb"]
    if verb == "probe":
        return probe(store.root, paths)
    if verb == "missing":
        return store.missing(request["files"])
    if verb == "receive":
        return store.receive(request["sha256"], request["size"], source)
    if verb == "install":
        return str(store.install(request["id"], request["request"], request.get("signed")))
    if verb == "trust":
        return store.trust(request["signers"], request.get("signature"))
    if verb in ("build", "check"):
        return getattr(Deployment(store, request["id"], paths), verb)(request["candidate"])
    if verb == "bench":
        deployment = Deployment(store, request["id"], paths)
        names = ("candidates", "rounds", "seconds", "warm_up_s", "settings")
        return bench(deployment, *(request[name] for name in names))
    if verb == "state":
        return Deployment(store, request["id"], paths).state
    if verb == "choose":
        deployment = Deployment(store, request["id"], paths)
        deployment.state["choice"] = request["choice"]
        return write_json(deployment.folder / "state.json", deployment.state)
    if verb == "read":
        path = Deployment(store, request["id"], paths).folder / checked_path(request["path"])
        return path.read_text(encoding="utf-8", errors="replace")
    if verb == "activate":
        return store.activate(request["id"], request["candidate"])
    if verb == "rollback":
        return store.rollback(request.get("from"))
    if verb == "list":
        return {"active": store.active(), "releases": store.history()}
    if verb == "prune":
        return store.prune(request["keep"])
    raise RefusedError("request", f"no verb is called {verb!r}")


def answered(store, paths, request, source):
    """Say its result or why there is none; whether the input can be read on."""
    try:
        say("result", value=answer(store, paths, request, source))
    except RefusedError as error:
        say("refused", kind=error.kind, text=str(error))
        return request.get("verb") != "receive" or error.kind == "checksum"  # else the rest is still to come
    except BrokenPipeError:
        raise
    except OSError as error:
        kind = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "system"
        say("refused", kind=kind, text=f"{error.filename or store.root}: {error.strerror}")
        return request["verb"] != "receive"  # the rest of the file is still to come
    except Exception as error:  # noqa: BLE001  whatever it was, the next request is answered
        say("refused", kind="request", text=f"{request.get('verb')} cannot be answered: {error!r}")
    return True


def serve(store, paths):
    """Requests, a JSON line each, until the input ends. One deploy at a time: the lock is held as long."""
    source = sys.stdin.buffer
    with store.alone():
        SERVING.set()
        say("ready", agent=VERSION)
        while True:
            try:
                line = heard(source.readline)
            except RefusedError:  # nobody is there to be told
                return
            if not line or not answered(store, paths, json.loads(line.decode("utf-8")), source):
                return


def heard(read, *given):
    """What ``read`` has; ``RefusedError`` where the host says nothing for long. (A buffer may hold words that no
    ``select`` sees.)"""

    def late(*_):
        raise RefusedError("cut", f"the host said nothing for {IDLE_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, IDLE_S)
    try:
        return read(*given)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def resolved(value):
    """A program's path, or a command's first word: of this user's home, not of the folder it is run in, and TensorRT's
    program where NVIDIA's packages put it, which is on no PATH."""
    if isinstance(value, list):
        return [resolved(word) if number == 0 else word for number, word in enumerate(value)]
    if "/" in value:
        return str(Path(value).expanduser().absolute())
    return str(TRTEXEC) if value == TRTEXEC.name and not shutil.which(value) and TRTEXEC.exists() else value


def main(arguments=None):
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="~/.local/share/edge-van", help="where everything is kept")
    parser.add_argument("--paths", type=json.loads, default={}, help="JSON: where programs are, by their names")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("serve", "openvino", "probe", "list", "rollback"):
        verbs.add_parser(name)
    activate = verbs.add_parser("activate")
    activate.add_argument("id")
    activate.add_argument("candidate")
    verbs.add_parser("prune").add_argument("--keep", type=int, default=1)
    chosen = vars(parser.parse_args(arguments))
    chosen["paths"] = {name: resolved(value) for name, value in chosen["paths"].items()}
    if chosen["verb"] == "openvino":
        sys.stdout.write(json.dumps(openvino_main(json.loads(sys.stdin.read()))) + "\n")
        return 0
    store = Store(chosen["root"])
    try:
        if chosen["verb"] == "serve":
            serve(store, chosen["paths"])
            return 0
        with store.alone():
            say("result", value=answer(store, chosen["paths"], chosen, None))
    except RefusedError as error:
        say("refused", kind=error.kind, text=str(error))
        return 1
    except BrokenPipeError:  # whoever asked is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
