"""Train a base network and write it as a file that `load_base` reads.

    torchrun --nproc-per-node 2 data_scripts/pretrain_base.py --data tinyimagenet36.npz --name pocket-resnet26

is how the weights that ship with madlab were made, from a 36-pixel copy of Tiny-ImageNet; pocket-densenet with
`--name pocket-densenet --architecture pocket_densenet`. ResNet-26 of full width, for 64-pixel crops of the same images
enlarged to 72 pixels, was made in 100 seconds on an H200:

    python data_scripts/pretrain_base.py --data tinyimagenet36.npz --name resnet26-tinyimagenet --width 32 \
        --enlarge 72 --sizes 8x40,8x48,8x64 --batch 256

The Decathlon's base network has the same width and size, and is trained on the ImageNet part of the Decathlon, as
`madlab prepare decathlon` packs it:

    python data_scripts/pretrain_base.py --data imagenet72 --out .                                  # one GPU
    torchrun --nproc-per-node 4 data_scripts/pretrain_base.py --data imagenet72 --batch 64 --out .  # four

Use one process per GPU, or one per core: on a CPU, two processes with one thread each train 1.4 times as many images
per second as one process with two threads. A run that was killed continues from its last epoch when the same command is
given. Small images come first (`--sizes`): most of what a network learns early, it learns as well from 20 pixels as
from 32. Images are kept on the device if they fill less than half of its free memory; otherwise they stay memory-mapped
on disk, and the next batch is cut while the device works on the current one.

The file is written to --out, with a log (data, epochs, accuracy, seed, seconds) as JSON beside it. The recipe for
imagenet72 is our choice, and has not yet been run on the whole data.
"""

import argparse
import hashlib
import io
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from madlab.backbones import BACKBONES, WEIGHTS, load_base, save_base
from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain, Split
from madlab.benchmarks.fetch import cache_folder
from madlab.benchmarks.loader import batches, crop_and_flip, normalise
from madlab.benchmarks.packed import MANIFEST
from madlab.device import autocast
from madlab.errors import MadlabError
from madlab.files.jsonfiles import write_json
from madlab.files.pictures import square_of
from madlab.files.tensors import load_tensors, save_tensors
from madlab.forward import shrink
from madlab.guard import fingerprint

IMAGENET72 = "imagenet72"
DEFAULTS = {
    "": {"name": "pocket-resnet26", "width": 16, "sizes": "6x20,5x24,4x32", "batch": 96},
    IMAGENET72: {"name": "resnet26-imagenet72", "width": 32, "sizes": "10x40,10x48,20x64", "batch": 256},
}
"""Data ("": any other) -> the defaults that depend on them: name, width, sizes and images per step."""


def read_npz(path: Path, split: str, side: int | None = None) -> tuple[Tensor, Tensor]:
    """One split of an .npz archive of encoded images: uint8 (N, H, W, 3), int64 (N,).

    For each split the archive holds the files one after another (`train_blob`), where each begins and ends
    (`train_offsets`, N + 1 integers) and the classes (`train_labels`). side: pixels to scale the square images to, as
    `load_domain` scales those of a folder; None leaves them as they are.
    """
    archive = np.load(path)
    blob, offsets = archive[f"{split}_blob"].tobytes(), archive[f"{split}_offsets"]

    def decode(picture: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(picture)).convert("RGB")
        return np.asarray(image) if side is None else square_of(image, side)

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:  # Pillow works outside Python's lock
        images = np.stack(list(threads.map(decode, (blob[a:b] for a, b in pairwise(offsets)))))
    return torch.from_numpy(images), torch.from_numpy(archive[f"{split}_labels"].astype(np.int64))


def read(data: str, side: int | None) -> tuple[Domain, Path]:
    """The images to train on, and the file whose hash identifies them."""
    if data == IMAGENET72:
        return load_domain("decathlon:imagenet12", size=72), cache_folder() / "decathlon" / "imagenet12" / MANIFEST
    path = Path(data)
    train, val, test = (Split(*read_npz(path, split, side)) for split in ("train", "val", "test"))
    names = [str(label) for label in range(int(train.labels.max()) + 1)]
    return Domain(path.stem, names, train, val, test), path


def cuts(
    train: Split, index: Tensor, batch: int, crop: int, generator: torch.Generator, ahead: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, cropped and mirrored batches of the samples in `index`: uint8 (B, 3, crop, crop), labels (B,).

    ahead: whether to cut the next batch in a separate thread while the current one is used.
    """
    index = index[torch.randperm(len(index), generator=generator)]
    parts = [part.to(train.images.device) for part in index.split(batch) if len(part) > 1]

    def cut(part: Tensor) -> tuple[Tensor, Tensor]:
        return crop_and_flip(train.images, part, crop, True, generator), train.labels[part]

    if not ahead:
        yield from map(cut, parts)
        return
    with ThreadPoolExecutor(1) as thread:  # one, so that random numbers are drawn in order
        waiting = thread.submit(cut, parts[0])
        for part in parts[1:]:
            ready, waiting = waiting.result(), thread.submit(cut, part)
            yield ready
        yield waiting.result()


def size_at(epoch: int, sizes: list[tuple[int, int]]) -> int:
    """The image size of an epoch in pixels; sizes: [(epochs, pixels), ...]."""
    for epochs, pixels in sizes:
        if epoch < epochs:
            return pixels
        epoch -= epochs
    raise ValueError("epoch beyond the last size")


def triangular(progress: float, peak: float, warmup: float = 0.15) -> float:
    """The learning rate at `progress` (0 to 1) of the training: a linear rise to `peak`, then a linear fall to zero."""
    return peak * min(progress / warmup, (1 - progress) / (1 - warmup))


@torch.no_grad()
def accuracy(network: nn.Module, split: Split, crop: int, normalization: dict) -> float:
    """Accuracy in percent on the centre crops of a split; leaves the network in eval mode."""
    network.eval()
    correct = 0
    for images, labels in batches(split.images, split.labels, 500, crop, normalization=normalization):
        correct += (network(images).argmax(1) == labels).sum().item()
    return 100 * correct / len(split)


def round_to_half(network: nn.Module) -> None:
    """Round the parameters to half precision, in which `save_base` then stores them; BatchNorm's statistics stay."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half())


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an .npz file, or imagenet72: the Decathlon's ImageNet, prepared")
    parser.add_argument("--name", help="also the file's name")
    parser.add_argument("--architecture", default="resnet26", choices=sorted(BACKBONES))
    parser.add_argument("--width", type=int)
    parser.add_argument("--enlarge", type=int, help="side to scale an .npz file's images to, in pixels")
    parser.add_argument("--sizes", help="epochs x pixels, in this order: 6x20,5x24,4x32")
    parser.add_argument("--batch", type=int, help="images per process and step")
    parser.add_argument("--lr", type=float, default=0.4)
    parser.add_argument("--weight-decay", type=float, default=2e-4)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/pretrain"))
    parser.add_argument("--limit", type=int, help="use only this many training images, to try the script out")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args(arguments)
    for name, value in DEFAULTS[args.data if args.data in DEFAULTS else ""].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = options(arguments)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)

    domain, stands_for = read(args.data, args.enlarge)
    if world > 1:
        dist.init_process_group("nccl" if gpu else "gloo")
    torch.manual_seed(args.seed)
    pairs = (part.split("x") for part in args.sizes.split(","))
    sizes = [(int(count), int(pixels)) for count, pixels in pairs]
    epochs = sum(count for count, _ in sizes)
    crop = domain.size * 8 // 9  # 32 of 36 pixels, 64 of 72

    train, count = domain.train, len(domain.train)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(args.seed))[: args.limit]
    statistics = domain.normalization
    if args.data != IMAGENET72:
        values = train.images[chosen[:10000]].float().div(255)
        statistics = {"mean": values.mean((0, 1, 2)).tolist(), "std": values.std((0, 1, 2)).tolist()}
    ahead = gpu and train.images.numel() > torch.cuda.mem_get_info(device)[0] / 2
    train = train if ahead else train.to(device)
    validation = domain.val.to(device)

    base: Any = BACKBONES[args.architecture](num_classes=domain.num_classes, width=args.width)
    base = base.to(device, memory_format=torch.channels_last)
    base.normalization, base.resize, base.crop = statistics, domain.size, crop
    decayed = [parameter for parameter in base.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in base.parameters() if parameter.ndim == 1]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain}], lr=0.1, momentum=0.9, nesterov=True
    )
    names = {parameter: name for name, parameter in base.named_parameters()}

    config = {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items()} | {"data": Path(args.data).name}
    log, first = [], 0
    checkpoint = args.checkpoint / f"{args.name}.safetensors"
    if checkpoint.exists():
        tensors, state = load_tensors(checkpoint, device, finite=False)
        if state["config"] != config:
            raise MadlabError(
                f"{checkpoint} is from a run with other options: remove it, or name another --checkpoint."
            )
        weights = {name: tensor for name, tensor in tensors.items() if name.startswith("base.")}
        base.load_state_dict({name.removeprefix("base."): tensor for name, tensor in weights.items()})
        for parameter, name in names.items():
            optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].clone()
        log, first = state["log"], len(state["log"])
    network = DistributedDataParallel(base, broadcast_buffers=False) if world > 1 else base

    share = len(chosen) // world
    steps = -(-share // args.batch)
    for epoch in range(first, epochs):
        began, pixels, total = time.time(), size_at(epoch, sizes), torch.zeros((), device=device)
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(1000 * args.seed + epoch))
        mine = chosen[order[rank * share : (rank + 1) * share]]
        generator = torch.Generator().manual_seed(1_000_000 * (rank + 1) + 1000 * args.seed + epoch)
        network.train()
        for step, (cut, labels) in enumerate(cuts(train, mine, args.batch, crop, generator, ahead)):
            for group in optimiser.param_groups:
                group["lr"] = triangular((epoch + step / steps) / epochs, args.lr)
            images = normalise(cut.to(device), statistics)
            if pixels != crop:
                images = shrink(images, pixels)
            with autocast(device):
                loss = F.cross_entropy(network(images), labels.to(device), label_smoothing=args.smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.detach()

        if not torch.isfinite(total):
            raise MadlabError(f"The loss became {total.item()} in epoch {epoch + 1}: lower the learning rate (--lr).")
        if rank == 0:
            entry = {"epoch": epoch + 1, "pixels": pixels, "train_loss": round(total.item() / steps, 4)}
            entry |= {"val_accuracy": round(accuracy(base, validation, crop, statistics), 2)}
            log.append(entry | {"seconds": round(time.time() - began, 1)})
            print(log[-1], flush=True)
            state = {f"base.{k}": v for k, v in base.state_dict().items()}
            state |= {f"momentum.{names[p]}": s["momentum_buffer"] for p, s in optimiser.state.items()}
            save_tensors(checkpoint, state, {"config": config, "log": log}, finite=False)

    if rank == 0:
        path = args.out / f"{args.name}.safetensors"
        round_to_half(base.cpu())
        save_base(base, path, name=args.name, architecture=args.architecture, width=args.width)
        written = load_base(str(path))
        record = {"config": config, "domain": domain.name, "processes": world, "torch": torch.__version__}
        record |= {"device": torch.cuda.get_device_name(device) if gpu else f"{platform.machine()} CPU"}
        record |= {"sha256": fingerprint(written), "data_sha256": hashlib.sha256(stands_for.read_bytes()).hexdigest()}
        tested = accuracy(written.to(device), domain.test.to(device), crop, statistics)
        record |= {"test_accuracy": round(tested, 2), "test": domain.description or "the test split"}
        record |= {"seconds": round(sum(entry["seconds"] for entry in log)), "log": log}
        write_json(path.with_suffix(".json"), record)
        print(f"{path}: test accuracy {record['test_accuracy']} %")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except MadlabError as error:
        sys.exit(f"pretrain_base: {error}")
