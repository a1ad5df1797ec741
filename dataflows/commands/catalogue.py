"""`signalbox catalogue`: what can be computed, what decides on it, and everything about one item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

import typer

from dataflows.catalogue import Catalogue, FeatureEntry, Key, SpecialistEntry, StrategyEntry, collect
from dataflows.catalogue.docstrings import on_one_line
from dataflows.catalogue.entries import Item
from dataflows.commands.terminal import print_json, print_table
from schemas.time import format_duration

__all__ = ["run_catalogue"]

_KINDS: Final = {FeatureEntry.kind: "feature", StrategyEntry.kind: "strategy", SpecialistEntry.kind: "specialist"}


def run_catalogue(kind: str | None, name: str | None, *, as_json: bool) -> None:
    """Print an overview, the items of a kind, or everything about one.

    Raises
    ------
    ConfigError
        There is no item of that kind and name.
    """
    catalogue = collect()
    if kind is None:
        _print_overview(catalogue, as_json=as_json)
        return
    chosen = tuple(catalogue.kinds()[kind].values()) if name is None else catalogue.named(kind, name)
    if as_json:
        print_json(_content(kind, chosen))
    elif name is None:
        _print_list(chosen)
    else:
        _print_items(chosen)


def _content(kind: str, items: Sequence[Item]) -> dict[str, object]:
    """Return the chosen items as plain JSON values; of features with the families that they belong to."""
    content: dict[str, object] = {kind: [item.content() for item in items]}
    families = {item.family.name: item.family for item in items if isinstance(item, FeatureEntry)}
    return content | ({"families": [family.content() for family in families.values()]} if families else {})


def _print_overview(catalogue: Catalogue, *, as_json: bool) -> None:
    kinds = catalogue.kinds()
    if as_json:
        print_json({kind: list(items) for kind, items in kinds.items()})
        return
    rows = []
    for kind, items in kinds.items():
        parts = _by_source(catalogue) if kind == FeatureEntry.kind else {"": list(items)}
        rows += [(kind, of, str(len(names)), ", ".join(names)) for of, names in parts.items()]
    print_table("", ("kind", "of", "count", "names"), rows)
    typer.echo("`signalbox catalogue KIND` lists a kind; `signalbox catalogue KIND NAME` says everything about one.")


def _by_source(catalogue: Catalogue) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for entry in catalogue.features.values():
        parts.setdefault(entry.family.source, []).append(entry.name)
    return parts


def _print_list(items: Sequence[Item]) -> None:
    headings: tuple[str, ...]
    for source, found in groupby(items, key=lambda item: item.family.source if isinstance(item, FeatureEntry) else ""):
        if source:
            title, headings = f"Of {source}", ("name", "unit", "from", "warm-up", "what it is")
        elif isinstance(items[0], StrategyEntry):
            title, headings = "", ("name", "decides on", "reads", "warm-up", "what it does")
        else:
            title, headings = "", ("name", "reads", "warm-up", "what it looks at")
        print_table(title, headings, [_row(item) for item in found], whole=1)


def _row(item: Item) -> tuple[str, ...]:
    if isinstance(item, FeatureEntry):
        spec = item.spec
        return spec.name, spec.unit, ", ".join(spec.inputs), str(spec.warm_up), spec.formula
    if isinstance(item, StrategyEntry):
        warm_up = "" if item.warm_up is None else str(item.warm_up)
        return item.name, item.on, ", ".join(item.needs), warm_up, item.summary
    return item.name, ", ".join(item.needs), f"{item.warm_up:g} outcomes" if item.warm_up else "", item.summary


def _print_items(items: Sequence[Item]) -> None:
    """Print everything about one item, or about the features of one family."""
    for item in items:
        facts = _feature_facts(item) if isinstance(item, FeatureEntry) else _facts(item)
        rows = [("what it is", _summary(item)), *((name, text) for name, text in facts.items() if text)]
        print_table("", (item.name, _KINDS[item.kind]), rows, whole=1)
    described = items[0].family if isinstance(items[0], FeatureEntry) else items[0]
    for title, text in (("Rule", described.text), ("Notes", described.notes), ("References", described.references)):
        if text:
            typer.echo(f"{title}\n\n{_indented(text)}\n")
    _print_keys(described.section, described.keys)


def _summary(item: Item) -> str:
    return item.family.summary if isinstance(item, FeatureEntry) else item.summary


def _feature_facts(entry: FeatureEntry) -> dict[str, str]:
    spec, others = entry.spec, [spec.name for spec in entry.family.specs if spec.name != entry.name]
    return {
        "unit": spec.unit,
        "formula": spec.formula,
        "from": ", ".join(spec.inputs),
        "warm-up": _observations(spec.warm_up),
        "values": ", ".join(f"{name} = {value}" for name, value in _in_words(spec.parameters).items()),
        "reference": spec.reference,
        "computed with": ", ".join(others),
    }


def _in_words(parameters: Mapping[str, object]) -> dict[str, object]:
    return {
        name.removesuffix("_ns"): format_duration(value) if name.endswith("_ns") and isinstance(value, int) else value
        for name, value in parameters.items()
    }


def _facts(entry: StrategyEntry | SpecialistEntry) -> dict[str, str]:
    if isinstance(entry, StrategyEntry):
        return {
            "decides on": entry.decides_on,
            "reads": ", ".join(entry.needs),
            "derives": ", ".join(entry.derived),
            "compares with": ", ".join(entry.compares),
            "reasons": "\n".join(entry.reasons),
            "warm-up": _observations(entry.warm_up),
            "inactive at first": entry.inactive or "",
        }
    return {
        "answers when": entry.answers,
        "reads": ", ".join(entry.needs),
        "inputs": "\n".join(f"{name} = {formula}" for name, formula in entry.inputs),
        "required": ", ".join(entry.required),
    }


def _observations(warm_up: int | None) -> str:
    if warm_up is None:
        return ""
    return f"{warm_up} observation{'s' if warm_up != 1 else ''}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _print_keys(section: str, keys: Sequence[Key]) -> None:
    if not keys:
        typer.echo("It has no parameters.")
        return
    rows = [(key.name, key.written, key.bounds.replace("`", ""), on_one_line(key.meaning)) for key in keys]
    print_table(f"Parameters, in [{section}]", ("key", "default", "bounds", "meaning"), rows, whole=1)
