"""Train the adapters that ship with madlab, for a first look without training: three pocket domains, three methods.

    python data_scripts/ship_adapters.py

Every run has 20 epochs, seed 0 and the rates of METHODS. Its domain goes to madlab/weights/adapters/DOMAIN-METHOD, with
8 bits per number and folded norms; its config, curve and accuracy go to madlab/records/shipped.jsonl. About ten minutes
on one core.
"""

import tempfile
from pathlib import Path

import madlab
from madlab.lessons.shipped import DOMAINS, METHODS, shipped
from madlab.runs.record import RECORDS, Run, write_runs

EPOCHS = 20


def main() -> None:
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        for domain in DOMAINS:
            for method in METHODS:
                folder = Path(temporary, domain, method)
                madlab.train(domain, method, epochs=EPOCHS, seed=0, out=folder)
                net = madlab.MultiDomainNet(madlab.load_base("pocket-resnet26"))
                name = net.load_domain(folder / "adapter.safetensors")
                shipped(domain, method).parent.mkdir(exist_ok=True)
                net.save_domain(name, shipped(domain, method), bits=8, norms="folded")
                runs.append(Run.read(folder))
    write_runs(RECORDS / "shipped.jsonl", runs)


if __name__ == "__main__":
    main()
