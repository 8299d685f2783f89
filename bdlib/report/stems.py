"""Which figure belongs to what: the names of files, shared by those who draw and those who show."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bdlib.files import digest
from bdlib.report.results import Section


def corpus_stem(dataset: dict[str, Any]) -> str:
    """What all figures of a data set have in their names, such as ``SpeechCommands-12-subset``."""
    return "-".join(filter(None, (dataset["name"], dataset["variant"], dataset["scale"])))


def noise_stem(record: dict[str, Any]) -> str:
    """Of noise at test time on one attack, such as ``SpeechCommands-12-subset-clap-scale-0.1``."""
    attack = record["attack"] or {}
    level = (attack.get("trigger") or {}).get("scale")
    parts = (attack.get("name"), None if level is None else f"scale-{level:g}")
    return "-".join(filter(None, (corpus_stem(record["dataset"]), *parts)))


def filter_key(record: dict[str, Any]) -> str:
    """What filters, or repairs, share that are drawn in one figure, as text."""
    about = [record["dataset"]["digest"], record["attack"], record["model"]["name"]]
    return json.dumps(about, sort_keys=True)


def filter_stem(record: dict[str, Any]) -> str:
    """Of the filters of one attack."""
    return f"filters-{_attack_stem(record)}"


def neuron_stem(record: dict[str, Any]) -> str:
    """Of the repairs of one attack whose neurons are drawn."""
    return f"neurons-{_attack_stem(record)}"


def _attack_stem(record: dict[str, Any]) -> str:
    data = record["dataset"]
    parts = data["name"], data["variant"] or "all", data["scale"], record["attack"]["name"]
    return f"{'-'.join(parts)}-{digest(filter_key(record), 6)}"


def of_section(section: Section, figures: Iterable[Path]) -> list[Path]:
    """The figures of one attack on one state of the data."""
    records = [run for group in section.groups for run in group.runs if run["attack"]]
    noises = {
        f"noise-{noise_stem(record)}"
        for record in records
        if (record["defense"] or {}).get("name") == "feature_noise"
    }
    stems = noises | {stem(record) for record in records for stem in (filter_stem, neuron_stem)}
    # Two attacks of one stem are told apart by a digest behind it.
    return [
        path for path in figures if path.stem in stems or path.stem.rpartition("-")[0] in noises
    ]


def of_corpus(dataset: dict[str, Any], figures: Iterable[Path]) -> list[Path]:
    """The figures of a data set."""
    stem = corpus_stem(dataset)
    return [path for path in figures if f"-{stem}-" in f"-{path.stem}-"]
