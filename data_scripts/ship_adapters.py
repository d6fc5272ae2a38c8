"""Train the adapters that ship with madlab, for a first look without training: three pocket domains, three methods.

Fine-tuning by the same recipe is recorded beside them, as a yardstick, and does not ship: it would be three networks.

    python data_scripts/ship_adapters.py

Every run has RECIPE and the rates of METHODS; the record holds those that they were. Its domain goes to
madlab/weights/adapters.zip, with 8 bits per number and folded norms; its config, curve and accuracy go to
madlab/records/shipped.jsonl. About ten minutes on one core.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import madlab
from madlab.lessons.shipped import DOMAINS, METHODS, pack
from madlab.runs.record import RECORDS, Run, write_runs

RECIPE: dict[str, Any] = {"epochs": 20, "seed": 0}
YARDSTICK = "finetune"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    runs, files = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        for domain in DOMAINS:
            for method in (*METHODS, YARDSTICK):
                folder = Path(temporary, domain, method)
                madlab.train(domain, method, out=folder, **RECIPE)
                runs.append(Run.read(folder))
                if method == YARDSTICK:
                    continue
                net = madlab.MultiDomainNet(madlab.load_base("pocket-resnet26"))
                name = net.load_domain(folder / "adapter.safetensors")
                file = folder / "shipped.safetensors"
                net.save_domain(name, file, bits=8, norms="folded")
                files[f"{domain}-{method}.safetensors"] = file.read_bytes()
    pack(files)
    write_runs(RECORDS / "shipped.jsonl", runs)


if __name__ == "__main__":
    main()
