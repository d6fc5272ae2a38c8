"""The options of every command. Nothing here imports PyTorch, so that `madlab --help` is quick."""

import argparse
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from madlab import __version__
from madlab.cli import commands
from madlab.errors import MadlabError
from madlab.runs.recipe import Recipe, RecipeOptions

MOST_LETTERS = 10_000
"""In a sentence or a list of names."""
LAYERS = "which layers are adapted: all, conv, 3x3, 1x1, or names of layers, a,b,c (default: all)"
DEVICE = "cpu, cuda ... (default: the GPU if there is one)"
COMPILE = "launch training steps kernel by kernel (none), or compile them with a backend of torch.compile (inductor)"


class Parser(argparse.ArgumentParser):
    """argparse without abbreviated options, and with one sentence for what it cannot parse."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise MadlabError(f"{message}; `{self.prog} --help` has all options.")


def parse(arguments: Sequence[str] | None) -> tuple[Callable[..., None], dict[str, Any]]:
    """The command that was asked for and its options; MadlabError for arguments that it does not take."""
    options = vars(_parser().parse_args(arguments))
    return options.pop("command"), options


def _parser() -> Parser:
    parser = Parser(prog="madlab", description="Multi-domain learning with Modulation Adapters.")
    parser.add_argument("--version", action="version", version=f"madlab {__version__}")
    added = parser.add_subparsers(required=True, metavar="COMMAND")
    for command, add_options in (
        (commands.doctor, lambda sub: None),
        (commands.course, _course),
        (commands.train, _train),
        (commands.evaluate, _evaluate),
        (commands.predict, _predict),
        (commands.sweep, _sweep),
        (commands.prepare, _prepare),
        (commands.bench, _bench),
        (commands.report, _report),
        (commands.diagnose, _diagnose),
        (commands.inspect, _inspect),
        (commands.compare, _compare),
        (commands.export, _export),
        (commands.share, _share),
    ):
        sub = added.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        add_options(sub)
    return parser


def _course(sub: argparse.ArgumentParser) -> None:
    default = Path("madlab-course")
    told = "where the notebooks go; those that are there already stay as they are (default: %(default)s)"
    sub.add_argument("folder", type=_path, nargs="?", default=default, metavar="DIR", help=told)
    sub.add_argument("--no-open", action="store_true", help="only copy them")


def _train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--domain", type=_text, help="a pocket domain's name, a folder of images, or a CSV of them")
    sub.add_argument("--method", type=_text, help="a method's name; mad:8 is mad with rank 8 (default: mad)")
    sub.add_argument("--rank", type=_whole, help="the rank I of a factorised method")
    _add_network(sub)
    sub.add_argument("--out", type=_path, required=True, help="the run folder to make")
    sub.add_argument("--resume", action="store_true", help="go on with the run that is in --out")
    sub.add_argument(
        "--config", type=_path, help="repeat the run of this config.json; options beside it replace what it says"
    )
    sub.add_argument(
        "--no-flip", dest="flip", action="store_const", const=False, help="never mirror images (signs, letters)"
    )
    _add_recipe(sub)


def _evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=_path, nargs="+", metavar="RUN", help="a run folder")
    sub.add_argument("--domain", type=_text, help="the images, where the run's own are not at hand: a folder or a name")
    sub.add_argument("--base", type=_text, help="the runs' base network, where it has to be downloaded")
    sub.add_argument("--device", type=_text, help=DEVICE)
    sub.add_argument("--results", type=_path, help="instead write the Decathlon challenge's results.json to this file")
    sub.add_argument("--labels", type=_path, help="score that file with the labels of the test images (folder or zip)")


def _predict(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", type=_path, metavar="RUN", help="a run folder")
    told = "image files, folders with images at any depth, or - for a list on standard input, one path per line"
    sub.add_argument("paths", type=_path, nargs="+", metavar="PATH", help=told)
    sub.add_argument("--top", type=_whole, default=3, help="how many classes per image (default: %(default)s)")
    sub.add_argument("--format", choices=["csv", "jsonl"], default="csv", help="default: %(default)s")
    sub.add_argument("--base", type=_text, help="the run's base network, where it has to be downloaded")
    sub.add_argument("--device", type=_text, help=DEVICE)


def _sweep(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--domains", type=_names, required=True, help="pocket domains' names or folders: a,b,c")
    sub.add_argument("--methods", type=_names, required=True, help="methods, with their ranks: mad,mad:8,finetune")
    sub.add_argument("--seeds", type=_whole, default=1, help="how many seeds; they count from 0 (default: %(default)s)")
    sub.add_argument("--out", type=_path, required=True, help="the folder for OUT/DOMAIN/METHOD/seedK")
    _add_network(sub)
    sub.add_argument("--no-flip", type=_names, help="domains whose images are never mirrored: a,b")
    sub.add_argument("--engine", type=_text, help="local, or ray: a cluster (default: local)")
    sub.add_argument("--workers", type=_whole, help="processes on this machine (local: 1, ray: one per core)")
    sub.add_argument("--devices", type=_whole, help="GPUs of this machine to spread the runs over (local engine)")
    sub.add_argument(
        "--address",
        type=_text,
        help="a Ray cluster that is running, HOST:PORT or auto. Whoever reaches that address can run programs on its "
        "machines, so keep it inside your network; all its machines must see the same files. Without an address, "
        "--engine ray starts a Ray that listens on 127.0.0.1 alone and ends with the sweep",
    )
    sub.add_argument("--gpus-per-run", type=_number, help="share of a GPU that a run takes on Ray, 0.25 for example")
    _add_recipe(sub, without=("seed",))


def _prepare(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("benchmark", choices=["decathlon", "sketch", "open"], help="open: what torchvision downloads")
    sub.add_argument("--root", type=_path, help="where the data go (default: $MADLAB_DATA, else the user's cache)")
    sub.add_argument("--domains", type=_names, help="only some, by their official names: gtsrb,svhn")
    sub.add_argument("--imagenet", type=_path, help="decathlon: the ImageNet archive, which needs registration")
    sub.add_argument("--labels", type=_path, help="decathlon: a folder or zip with the labels of the test images")
    sub.add_argument("--source", type=_path, help="sketch: the archives or folders that you have")
    sub.add_argument("--list-only", action="store_true", help="open: only list sizes and licences")


def _bench(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--base", type=_text, help="the base network (default: resnet26, untrained, at two widths)")
    sub.add_argument("--width", type=_whole, help="channels of resnet26's stem")
    sub.add_argument("--size", type=_whole, help="side of the images in pixels")
    sub.add_argument("--batch", type=_whole, help="images in a batch")
    sub.add_argument("--rounds", type=_whole, help="how often each step is timed (default: 15)")
    sub.add_argument("--methods", type=_names, help="methods, with their ranks (default: all, and mad:8)")
    parts = "training,loop,inference,mixed,switching,files,memory,pipeline,epochs,start"
    sub.add_argument("--parts", type=_names, help=f"only some of {parts}")
    sub.add_argument("--growth", action="store_true", help="also: more domains, ranks, images and wider networks")
    sub.add_argument("--device", type=_text, help=DEVICE)
    sub.add_argument("--json", type=_path, help="write everything that was measured to this file")
    sub.add_argument("--figure", type=_path, help="draw the training steps into this file (.png, .pdf, .svg)")


def _report(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=_path, help="a folder with run folders in it, at any depth, or a file of runs")
    sub.add_argument("--benchmark", choices=["decathlon", "sketch"], help="beside the published rows, with sources")
    told = "methods of the table, mad,mad:8, against all others: differences with intervals, and what they settle"
    sub.add_argument("--duels", type=_names, metavar="METHODS", help=told)
    sub.add_argument("--csv", type=_path, help="write the table to this file, too")
    sub.add_argument("--figure", type=_path, help="draw it into this file (.png, .pdf, .svg)")


def _diagnose(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", type=_path, metavar="RUN", help="a run folder, finished or not")
    told = "run folders, or folders with runs in them, to compare it with"
    sub.add_argument("--beside", type=_path, nargs="+", default=(), metavar="RUNS", help=told)
    sub.add_argument("--base", type=_text, help="the runs' base network, where it has to be downloaded")


def _inspect(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", type=_path, metavar="RUN", help="a run folder")
    sub.add_argument(
        "--out", type=_path, metavar="FILE.html", help="the page (default: inspect.html in the run folder)"
    )
    _add_answers(sub)


def _compare(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("first", type=_path, metavar="RUN", help="a run folder")
    sub.add_argument("second", type=_path, metavar="RUN", help="another one, on the same domain")
    told = "the page (default: %(default)s)"
    sub.add_argument("--out", type=_path, metavar="FILE.html", default=Path("compare.html"), help=told)
    _add_answers(sub)


def _add_answers(sub: argparse.ArgumentParser) -> None:
    """The options of pages about a run's answers."""
    sub.add_argument("--domain", type=_text, help="the images, where the run's own are not at hand: a folder or a name")
    told = "test, or val to look at what you will change something for (default: %(default)s)"
    sub.add_argument("--split", type=_text, default="test", help=told)
    sub.add_argument("--base", type=_text, help="the runs' base network, where it has to be downloaded")
    sub.add_argument("--device", type=_text, help=DEVICE)


def _export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", type=_path, metavar="RUN", help="a run folder")
    told = "NAME.onnx, NAME.pt2 (torch.export), NAME.safetensors (weights of the stock network) or NAME.peft (a folder)"
    sub.add_argument("file", type=_path, metavar="FILE", help=told)
    told = "put the normalization inside, so that the network takes pixels from 0 to 1 (.onnx, .pt2)"
    sub.add_argument("--with-normalization", action="store_true", help=told)
    sub.add_argument("--base", type=_text, help="the run's base network, where it has to be downloaded")


def _share(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", type=_path, metavar="RUN", help="a run folder")
    sub.add_argument("--out", type=_path, required=True, metavar="FOLDER", help="the folder to make")
    sub.add_argument("--license", type=_text, help="the licence's short name on the hub, such as apache-2.0")
    sub.add_argument("--data", type=_words, help="a sentence about the images: where they are from, what may be done")
    sub.add_argument("--intended-use", type=_words, help="a sentence about what the network is for")
    sub.add_argument("--base", type=_text, help="the run's base network, where it has to be downloaded")


def _add_network(sub: argparse.ArgumentParser) -> None:
    """The options that `train` and `sweep` share, besides the recipe."""
    sub.add_argument("--base", type=_text, help="the base network (default: pocket-resnet26)")
    sub.add_argument("--layers", type=_words, help=LAYERS)
    sub.add_argument("--head", type=_text, help="the name of the base network's classifier, where it cannot be found")
    sub.add_argument(
        "--option",
        dest="options",
        type=_option,
        action=_Collect,
        metavar="NAME=VALUE",
        help="an option of the method, alpha=16 for example; may be given several times",
    )
    sub.add_argument(
        "--split",
        type=_text,
        metavar="70/15/15",
        help="split a folder of class folders, or a table of paths and labels, into train, val and test, for good",
    )
    told = "csv: metrics.csv beside metrics.jsonl; tensorboard: event files; jsonl: neither (default: jsonl)"
    sub.add_argument("--log", choices=["jsonl", "csv", "tensorboard"], help=told)
    sub.add_argument("--device", type=_text, help=DEVICE)
    sub.add_argument("--compile", type=_text, help=COMPILE)


def _add_recipe(sub: argparse.ArgumentParser, without: Sequence[str] = ()) -> None:
    """An option for every field of the recipe, which checks the values, with the field's docstring as its help."""
    group = sub.add_argument_group("recipe")
    fields: dict[str, Any] = Recipe.__pydantic_fields__  # type: ignore[attr-defined]
    for name, kind in get_type_hints(RecipeOptions).items():
        if name not in without:
            said = fields[name].description.removesuffix(".").replace("%", "%%")
            told = said[0].lower() + said[1:]  # as all other help begins
            option = f"--{name.replace('_', '-')}"
            if kind is bool:  # None where it is not given, so that a repeated run keeps its own
                group.add_argument(option, action="store_const", const=True, help=told)
                continue
            default = "" if fields[name].default is None else f" (default: {fields[name].default})"
            parsed = _text if kind is str else _whole if kind in (int, int | None) else _number
            group.add_argument(option, type=parsed, help=told + default)


class _Collect(argparse.Action):
    """Gathers NAME=VALUE pairs in a dictionary; a name that is given twice is refused."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        name, value = values
        pairs = getattr(namespace, self.dest) or {}
        if name in pairs:
            parser.error(f"the option {name} was given twice")
        setattr(namespace, self.dest, pairs | {name: value})


def _option(text: str) -> tuple[str, Any]:
    """NAME=VALUE, where the value is a JSON scalar, or else a text as it stands."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not of the form NAME=VALUE")
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = value
    if isinstance(parsed, dict | list) or (isinstance(parsed, float) and not math.isfinite(parsed)):
        raise argparse.ArgumentTypeError(f"{value!r:.60} is not a number, a text, true or false")
    return name, parsed


def _names(text: str) -> list[str]:
    """Names between commas; a comma in brackets belongs to a name, as in "mad:2 (3x3, form residual)"."""
    names = re.split(r",(?![^(]*\))", _words(text))
    if not all(name.strip() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a list of names: write a,b,c")
    return [_text(name) for name in names]


def _whole(text: str) -> int:
    """A whole number in plain digits, of which int() would let "1_0" and those of other scripts pass."""
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a whole number")
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|nan)", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a number")
    return float(text)


def _path(text: str) -> Path:
    return Path(_text(text))


def _words(text: str) -> str:
    """Sentences, or a list of names, with something in them."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    if len(text) > MOST_LETTERS:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is too long: give at most {MOST_LETTERS:,} letters")
    return text


def _text(text: str) -> str:
    """A text with something in it that is short enough for a path and, between slashes, for names of files."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    path = text.encode(errors="surrogateescape")
    if len(path) > 4000 or any(len(part) > 255 for part in path.split(b"/")):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is too long for a name")
    return text
