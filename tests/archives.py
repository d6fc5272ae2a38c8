"""Miniature archives in the official byte layouts, a loopback server to fetch them from, and processes to kill."""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
from PIL import Image

from madlab.benchmarks.decathlon import DECATHLON, IMAGENET, prepare_decathlon
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.fetch import Archive
from madlab.benchmarks.protocol import Protocol
from madlab.benchmarks.sketch import SKETCH

Picture = tuple[bytes, int]
"""JPEG bytes and the label."""


@dataclass
class Mini:
    """A small domain: its pictures by split, in the order of their ids."""

    name: str
    class_names: list[str]
    splits: dict[str, list[Picture]]


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def tiny(name: str, classes: int, per_class: tuple[int, int, int], height: int = 72, width: int = 72) -> Mini:
    """A domain of generated pictures, all different: smooth colours that depend on a picture's number."""
    rng = np.random.default_rng(len(name))
    splits: dict[str, list[Picture]] = {}
    for split, count in zip(("train", "val", "test"), per_class, strict=True):
        pictures = []
        for i in range(classes * count):
            corners = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
            pictures.append((jpeg(np.asarray(corners.resize((width, height), Image.Resampling.BILINEAR))), i % classes))
        splits[split] = pictures
    return Mini(name, [f"class {i}" for i in range(classes)], splits)


def from_domain(domain: Domain, name: str, size: int = 72) -> Mini:
    """Any Domain as if it were the official `name`: its images scaled to `size` pixels and stored as JPEG."""
    splits = {}
    for split in ("train", "val", "test"):
        part = getattr(domain, split)
        images = (
            Image.fromarray(image.numpy()).resize((size, size), Image.Resampling.BICUBIC) for image in part.images
        )
        splits[split] = [(jpeg(np.asarray(i)), int(label)) for i, label in zip(images, part.labels, strict=True)]
    return Mini(name, list(domain.class_names), splits)


def decathlon(folder: Path, minis: Iterable[Mini], base_url: str = "") -> Protocol:
    """Write devkit, data and ImageNet archives and labels_test.zip into `folder`; the protocol that they fulfil."""
    minis = list(minis)
    files: dict[str, bytes] = {}
    labels: dict[str, bytes] = {}
    tars: dict[str, dict[str, bytes]] = {mini.name: {} for mini in minis}
    domains = []
    for mini in minis:
        official, next_image = DECATHLON.domain(mini.name), 200_001
        counts = {split: len(pictures) for split, pictures in mini.splits.items()}
        domains.append(replace(official, classes=len(mini.class_names), **counts))
        for split, pictures in mini.splits.items():
            names = decathlon_names(mini, split)
            tars[mini.name] |= dict(zip(names, (data for data, _ in pictures), strict=True))
            full = annotation_json(mini, official.index, split, names, next_image)
            next_image += len(pictures)
            ending = f"{split}_stripped" if split == "test" else split
            kept = full | {"annotations": []} if split == "test" else full
            files[f"decathlon-1.0/annotations/{mini.name}_{ending}.json"] = json.dumps(kept).encode()
            if split == "test":
                labels[f"labels_test/{mini.name}_test.json"] = json.dumps(full).encode()
    inner = {f"{name}.tar": tar_bytes(content, "w") for name, content in tars.items() if name != IMAGENET}
    written = {
        "devkit": tar_bytes(files, "w:gz"),
        "data": tar_bytes(inner, "w:gz"),
        IMAGENET: tar_bytes(tars.get(IMAGENET, {}), "w"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "labels_test.zip", "w") as archive:
        for name, data in labels.items():
            archive.writestr(name, data)
    archives = {}
    for key, data in written.items():
        official_archive = DECATHLON.archives[key]
        (folder / official_archive.name).write_bytes(data)
        urls = () if key == IMAGENET else (f"{base_url}/{official_archive.name}",)
        archives[key] = described(official_archive.name, data, urls, official_archive.manual)
    return replace(DECATHLON, domains=tuple(domains), archives=archives)


def described(name: str, data: bytes, urls: tuple[str, ...] = (), manual: str = "") -> Archive:
    return Archive(name, len(data), hashlib.sha256(data).hexdigest(), urls, manual)


def decathlon_names(mini: Mini, split: str) -> list[str]:
    """The official places: train and val with one folder per class, test flat, all numbered from 1."""
    names = []
    for number, (_, label) in enumerate(mini.splits[split], start=1):
        of_class = "" if split == "test" else f"{label + 1:04d}/"
        names.append(f"{mini.name}/{split}/{of_class}{number:06d}.jpg")
    return names


def annotation_json(mini: Mini, index: int, split: str, names: list[str], first: int) -> dict:
    """The official COCO-style content of one annotation file, labels included."""
    offset = index * 10_000_000
    ids = [offset + first + i for i in range(len(names))]
    images, annotations = [], []
    for image_id, name, (data, label) in zip(ids, names, mini.splits[split], strict=True):
        width, height = Image.open(io.BytesIO(data)).size
        images.append({"id": image_id, "width": width, "height": height, "file_name": f"data/{name}"})
        annotations.append(
            {"id": image_id, "image_id": image_id, "category_id": offset + 1 + label}
            | {"segmentation": [], "area": 0, "bbox": [], "iscrowd": 0}
        )
    categories = [
        {"id": offset + 1 + i, "name": name, "supercategory": mini.name} for i, name in enumerate(mini.class_names)
    ]
    info = {"year": 2017, "version": 1, "description": "Decathlon", "contributor": "misc", "url": ""}
    licenses = [{"id": 1, "name": "decathlon", "url": ""}]
    return {"info": info, "images": images, "annotations": annotations, "categories": categories, "licenses": licenses}


def sketch(folder: Path, minis: Iterable[Mini], kind: str = "zip") -> Protocol:
    """Write the domains in the layout of piggyback; val joins train, because there is no val.

    kind: "folder": as folders; "zip": one FOLDER.zip a domain; "tar": all below data/ in one data.tar.gz.
    """
    domains, everything = [], {}
    for mini in minis:
        official = SKETCH.domain(mini.name)
        pictures = {"train": mini.splits["train"] + mini.splits["val"], "test": mini.splits["test"]}
        counts = {split: len(of_split) for split, of_split in pictures.items()}
        domains.append(replace(official, classes=len(mini.class_names), **counts))
        files = {
            f"{official.folder}/{split}/{mini.class_names[label]}/{number:05d}.jpg": data
            for split, of_split in pictures.items()
            for number, (data, label) in enumerate(of_split)
        }
        everything |= {f"data/{name}": data for name, data in files.items()}
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "zip":
            with zipfile.ZipFile(folder / f"{official.folder}.zip", "w") as archive:
                for name, data in files.items():
                    archive.writestr(name, data)
        elif kind == "folder":
            for name, data in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
    if kind == "tar":
        (folder / "data.tar.gz").write_bytes(tar_bytes(everything, "w:gz"))
    return replace(SKETCH, domains=tuple(domains))


def tar_bytes(files: dict[str, bytes], mode: str, extra: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """A tar as tar(1) writes it, folders included; extra: entries without content, such as links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        folders: set[str] = set()
        for name, data in files.items():
            for parent in reversed(Path(name).parents[:-1]):
                if str(parent) not in folders:
                    folders.add(str(parent))
                    entry = tarfile.TarInfo(str(parent))
                    entry.type = tarfile.DIRTYPE
                    archive.addfile(entry)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in extra:
            archive.addfile(entry)
    return buffer.getvalue()


@dataclass
class Host:
    """A loopback server of the files in `folder`, with the ways in which hosts fail."""

    folder: Path
    ranges: bool = True
    stall_after: int | None = None
    cut_after: int | None = None
    delay: float = 0
    log: list[list] = field(default_factory=list)  # [path, Range header, bytes sent] of each request
    url: str = ""

    def requests(self, name: str) -> list[tuple[str | None, int]]:
        """(Range header, bytes sent) of each request for a file."""
        return [(asked, sent) for path, asked, sent in self.log if path == f"/{name}"]


@contextlib.contextmanager
def serve(folder: Path, **options: object) -> Iterator[Host]:
    host, closing = Host(folder, **options), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, asked = host.folder / self.path.lstrip("/"), self.headers.get("Range")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            total, start = len(data), int(asked.removeprefix("bytes=").rstrip("-")) if asked and host.ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("Content-Length", str(total - start))
            self.end_headers()
            sent, line = 0, [self.path, asked, 0]
            host.log.append(line)
            with contextlib.suppress(ConnectionError):
                for at in range(start, total, 4096):
                    if host.cut_after is not None and sent >= host.cut_after:
                        break
                    if host.stall_after is not None and sent >= host.stall_after:
                        closing.wait()
                        break
                    sent += len(data[at : at + 4096])
                    line[2] = sent  # before it is sent: who has the last byte may look at the log at once
                    self.wfile.write(data[at : at + 4096])
                    time.sleep(host.delay)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield host
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


STEPS = {"read1", "write", "pwrite", "flush", "fsync", "truncate", "replace", "rename", "mkdir", "close"}
"""Calls that change what is on disk or wait for the network: between any two of them a kill leaves another state."""


def _forked_prepare(root: Path, protocol: Protocol, kill_at: int | None = None) -> int:
    """Prepare in a fork, which SIGKILLs itself before its step `kill_at`, or counts its steps into ROOT.steps."""
    process, steps = os.fork(), 0
    if process:
        return process

    def on_event(_: object, event: str, function: object) -> None:
        nonlocal steps
        if event == "c_call" and function.__name__ in STEPS:
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        sys.setprofile(on_event)
        prepare_decathlon(root, protocol=protocol, say=lambda _: None)
        sys.setprofile(None)
        root.with_suffix(".steps").write_text(str(steps))
        code = 0
    finally:
        os._exit(code)


def torment(together: Path, roots: list[Path], protocol: Protocol, seed: int, answer: SimpleQueue) -> None:
    """In a process of its own: two processes prepare into one root; then one into each root, killed at random.

    Answers with the exit codes of the two, and how many of the others were still running when they were killed.
    """
    processes = [_forked_prepare(together, protocol) for _ in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    whole = together.with_name("whole")
    os.waitpid(_forked_prepare(whole, protocol), 0)
    steps, generator, killed = int(whole.with_suffix(".steps").read_text()), random.Random(seed), 0
    for i, root in enumerate(roots):  # one moment in each tenth of the work
        process = _forked_prepare(root, protocol, round(steps * (i + generator.random()) / len(roots)))
        killed += os.WIFSIGNALED(os.waitpid(process, 0)[1])
    answer.put((codes, killed))
