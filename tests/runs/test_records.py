"""Recorded runs are read back as they were written, and summed up as by hand."""

import json
from pathlib import Path

from madlab.runs.record import accuracy_table, read_records, shared_domains


def write(root: Path, domain: str, method: str, rank: int | None, seed: int, test: float, epochs: int = 2) -> None:
    folder = root / domain / f"{method}-{rank}" / f"seed{seed}"
    folder.mkdir(parents=True)
    facts = {"domain": domain, "method": method, "rank": rank, "seed": seed, "base": {"name": "b", "sha256": "0"}}
    facts |= {"base_parameters": 9, "adapter_parameters": 5, "val_accuracy": 50.0, "test_accuracy": test}
    facts |= {"best_epoch": 1, "epochs": epochs, "seconds": 1.0, "device": "CPU", "versions": {}}
    (folder / "result.json").write_text(json.dumps(facts))
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"epoch": e + 1, "val_loss": 0.5}) + "\n" for e in range(epochs))
    )


def test_reads_every_finished_run_and_its_log(tmp_path: Path) -> None:
    write(tmp_path, "signs", "mad", 8, 0, 70.0, epochs=3)
    write(tmp_path, "digits", "mad", None, 0, 80.0)
    (tmp_path / "digits" / "half-done").mkdir()
    (tmp_path / "digits" / "half-done" / "metrics.jsonl").write_text('{"epoch": 1}\n')
    records = read_records(tmp_path)
    assert [(r.result.domain, r.method) for r in records] == [("digits", "mad"), ("signs", "mad:8")]
    assert [line["epoch"] for line in records[1].log] == [1, 2, 3]
    assert read_records(tmp_path / "nowhere") == []


def test_accuracies_are_means_over_seeds(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((70.0, 74.0, 75.0)):
        write(tmp_path, "signs", "mad", None, seed, accuracy)
    write(tmp_path, "signs", "frozen", None, 0, 40.0)
    write(tmp_path, "digits", "frozen", None, 0, 60.0)
    table = accuracy_table(read_records(tmp_path))
    assert table == {"frozen": {"digits": 60.0, "signs": 40.0}, "mad": {"signs": 73.0}}
    assert shared_domains(table, ["frozen", "mad"]) == ["signs"]
    assert shared_domains(table, ["frozen"]) == ["digits", "signs"]
    assert shared_domains(table, ["frozen", "lora"]) == [] == shared_domains(table, [])
