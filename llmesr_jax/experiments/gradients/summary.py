"""The measurements as norms, cosines, rates and shares: for a JSON file, and as a text table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.gradients import items, landscape_study, users
from llmesr_jax.experiments.gradients.probe import TARGETS, Measured
from llmesr_jax.ranking import evaluate


def summarise(found: Measured, corpus: Corpus) -> dict[str, Any]:
    """All results except those of single users, as JSON values; NaN (no gradient there) becomes None."""
    tail_V, head_U = ~groups.head_items(corpus), groups.head_users(corpus)
    tail_n = ~head_U[found.rows_n]
    return _plain(
        {
            "terms": {name: _terms(found, name) for name in found.gram},
            "targets": {name: _targets(found, name) for name in found.target_gram},
            "users": {
                name: {label: _users(found, name, where_n) for label, where_n in (("tail", tail_n), ("head", ~tail_n))}
                | {"noise_scale": _noise(found, name)}
                for name in found.user_gram
            },
            "items": {name: _items(found, name, tail_V, corpus) for name in found.squares},
            **found.landscape,
        }
    )


def user_rows(found: Measured, corpus: Corpus) -> tuple[list[str], list[list[Any]]]:
    """A header, and a row for each measured user: norms by term, cosines of terms, alignment, over all parameters."""
    head_U = groups.head_users(corpus)
    gram, pairs = found.user_gram["all"], _pairs(found.user_terms)
    norms_nxK = _norms(gram)
    aligned_n = _aligned(found, "all", np.ones(len(gram), bool))
    header = ["user", "head", "positions", *(f"norm {name}" for name in found.user_terms)]
    header += [*(f"cosine {found.user_terms[i]}/{found.user_terms[j]}" for i, j in pairs), "cosine with the mean"]
    rows = [
        [int(row) + 1, int(head_U[row]), int(positions), *map(float, norms), *(_cosine(g, i, j) for i, j in pairs), a]
        for row, positions, norms, g, a in zip(found.rows_n, found.positions_n, norms_nxK, gram, aligned_n.tolist())
    ]
    return header, rows


def table(summary: dict[str, Any], names: Sequence[str]) -> str:
    """The summary in short tables: parts of the model, targets, users, rows of item tables, landscape."""
    parts = [_term_table(summary, names), _target_table(summary), _user_table(summary), _item_table(summary)]
    parts.append(landscape_study.table(summary))
    return "\n\n".join(part for part in parts if part)


def _terms(found: Measured, group: str) -> dict[str, Any]:
    gram, mean = found.gram[group], found.mean_gram[group]
    pairs = {}
    for i, j in _pairs(found.terms):
        cosine_n = _cosine(gram, i, j)
        cosine_n = cosine_n[np.isfinite(cosine_n)]
        pairs[f"{found.terms[i]}/{found.terms[j]}"] = {
            "cosine": _mean(cosine_n),
            "low": _quantile(cosine_n, 0.05),
            "high": _quantile(cosine_n, 0.95),
            "conflicts": _mean(cosine_n < 0),
            "cosine_of_means": _cosine(mean, i, j),
        }
    norms = dict(zip(found.terms, _norms(gram).mean(axis=0)))
    return {"steps": len(gram), "norm": norms, "norm_of_mean": dict(zip(found.terms, _norms(mean))), "pairs": pairs}


def _targets(found: Measured, group: str) -> dict[str, Any]:
    gram = found.target_gram[group]
    shares = np.array([found.tail_positions, 1 - found.tail_positions])
    norms_M = _norms(gram).mean(axis=0)
    pairs = {f"{found.targets[i]}/{found.targets[j]}": _mean(_cosine(gram, i, j)) for i, j in _pairs(found.targets)}
    return {
        "positions": dict(zip(TARGETS, shares)),
        "norm": dict(zip(found.targets, norms_M)),
        "norm_of_own_mean": dict(zip(TARGETS, norms_M[:2] / np.maximum(shares, 1e-12))),
        "cosine": pairs,
    }


def _users(found: Measured, group: str, where_n: np.ndarray) -> dict[str, Any]:
    gram = found.user_gram[group][where_n]
    pairs = {}
    for i, j in _pairs(found.user_terms):
        cosine_n = _cosine(gram, i, j)
        cosine_n = cosine_n[np.isfinite(cosine_n)]
        pairs[f"{found.user_terms[i]}/{found.user_terms[j]}"] = {
            "cosine": _mean(cosine_n),
            "conflicts": _mean(cosine_n < 0),
        }
    aligned_n = _aligned(found, group, where_n)
    square = gram.sum(axis=(1, 2))
    everybody = found.user_gram[group].sum()
    return {
        "users": int(where_n.sum()),
        "positions": _mean(found.positions_n[where_n]),
        "norm": dict(zip(found.user_terms, _norms(gram).mean(axis=0))) if len(gram) else {},
        "norm_by_position": _mean(np.sqrt(np.maximum(square, 0)) / np.maximum(found.positions_n[where_n], 1)),
        "share_of_squares": float(square.sum() / everybody) if everybody > 0 else None,
        "alignment": _mean(aligned_n[np.isfinite(aligned_n)]),
        "pairs": pairs,
    }


def _noise(found: Measured, group: str) -> dict[str, Any]:
    return users.noise_scale(found.user_gram[group].sum(axis=(1, 2)), float(found.user_mean[group].sum()))


def _items(found: Measured, name: str, tail_V: np.ndarray, corpus: Corpus) -> dict[str, Any]:
    gram = found.row_gram[name]
    conflicts = {}
    for i, j in _pairs(found.terms):
        cosine_V = _cosine(gram, i, j)
        for label, where_V in (("tail", tail_V), ("head", ~tail_V)):
            kept = cosine_V[where_V & np.isfinite(cosine_V)]
            pair = conflicts.setdefault(f"{found.terms[i]}/{found.terms[j]}", {})
            pair[label] = {"items": len(kept), "cosine": _mean(kept), "conflicts": _mean(kept < 0)}
    counts = corpus.item_counts_V
    tail = {"items": tail_V.mean(), "interactions": counts[tail_V].sum() / counts.sum()}
    tail |= {"gradient": {t: _part(square, tail_V) for t, square in zip(found.terms, found.squares[name])}}
    roles = {}
    if name in found.roles:
        for label, where_V in (("tail", tail_V), ("head", ~tail_V)):
            by_role = found.roles[name][:, where_V].sum(axis=1)
            roles[label] = dict(zip(items.ROLES, by_role / max(by_role.sum(), 1e-30)))
        tail["roles"] = {role: _part(square, tail_V) for role, square in zip(items.ROLES, found.roles[name])}
    return {"share_of_tail_items": tail, "roles": roles, "row_conflicts": conflicts}


def _term_table(summary: dict[str, Any], names: Sequence[str]) -> str:
    pair = next(iter(summary["terms"]["all"]["pairs"]), None)
    header = ["gradients", *(f"|{name}|" for name in names)]
    if pair:
        header += ["cosine", "5 to 95 %", "conflicts", "of means"]
    rows = [header]
    for group, of in summary["terms"].items():
        told = {name: p for name, p in of["pairs"].items() if p["cosine"] is not None}
        pairs = told or {next(iter(of["pairs"]), None): next(iter(of["pairs"].values()), None)}
        for k, (between, p) in enumerate(pairs.items()):
            label = group if len(of["pairs"]) < 2 or not told else f"{group}: {between}"
            row = [label, *(_number(of["norm"][name]) if k == 0 else "" for name in names)]
            if p:
                row += [_signed(p["cosine"]), f"{_signed(p['low'])} {_signed(p['high'])}"]
                row += [_percent(p["conflicts"]), _signed(p["cosine_of_means"])]
            rows.append(row)
    return evaluate.align(rows)


def _target_table(summary: dict[str, Any]) -> str:
    of = summary["targets"]["all"]
    others = [name for name in of["norm"] if name not in TARGETS]
    rows = [["ranking by target", "positions", "|gradient|", "|mean|", *(f"with {name}" for name in others)]]
    for name in TARGETS:
        cosines = [_signed(of["cosine"][f"{name}/{other}"]) for other in others]
        values = _number(of["norm"][name]), _number(of["norm_of_own_mean"][name])
        rows.append([name, _percent(of["positions"][name]), *values, *cosines])
    return evaluate.align(rows) + f"\nbetween the two: {_signed(of['cosine']['/'.join(TARGETS)])}"


def _user_table(summary: dict[str, Any]) -> str:
    of = summary["users"]["all"]
    pair = next(iter(of["tail"]["pairs"]), None)
    header = ["users", "count", "positions", "norm a position", "share of squares", "with the others' mean"]
    rows = [header + (["cosine", "conflicts"] if pair else [])]
    for label in ("tail", "head"):
        one = of[label]
        row = [label, str(one["users"]), _number(one["positions"]), _number(one["norm_by_position"])]
        row += [_percent(one["share_of_squares"]), _signed(one["alignment"])]
        if pair:
            row += [_signed(one["pairs"][pair]["cosine"]), _percent(one["pairs"][pair]["conflicts"])]
        rows.append(row)
    scale = of["noise_scale"]["scale"]
    found = "unknown, the mean gradient of --users users is within its noise" if scale is None else f"{scale:.0f} users"
    return evaluate.align(rows) + f"\nnoise scale: {found}"


def _item_table(summary: dict[str, Any]) -> str:
    parts = []
    for name, of in summary["items"].items():
        tail = of["share_of_tail_items"]
        told = {
            "items": tail["items"],
            "interactions": tail["interactions"],
            **tail["gradient"],
            **tail.get("roles", {}),
        }
        rows = [[f"tail's share of {name}", *told], ["", *(_percent(x) for x in told.values())]]
        parts.append(evaluate.align(rows))
    return "\n".join(parts)


def _aligned(found: Measured, group: str, where_n: np.ndarray) -> np.ndarray:
    square_n = found.user_gram[group].sum(axis=(1, 2))
    with_mean_n = found.user_with_mean[group].sum(axis=(1, 2))
    return users.alignment(square_n, with_mean_n, float(found.user_mean[group].sum()))[where_n]


def _pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(len(names)), 2))


def _norms(gram: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 0))


def _cosine(gram: np.ndarray, i: int, j: int) -> Any:
    with np.errstate(invalid="ignore", divide="ignore"):
        return gram[..., i, j] / np.sqrt(gram[..., i, i] * gram[..., j, j])


def _part(squares: np.ndarray, where: np.ndarray) -> float | None:
    return float(squares[where].sum() / squares.sum()) if squares.sum() > 0 else None


def _mean(x: np.ndarray) -> float | None:
    return float(np.mean(x)) if len(x) else None


def _quantile(x: np.ndarray, q: float) -> float | None:
    return float(np.quantile(x, q)) if len(x) else None


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(value) for value in tree]
    if isinstance(tree, (np.floating, float)):
        return float(tree) if np.isfinite(tree) else None
    return int(tree) if isinstance(tree, np.integer) else tree


def _number(x: float | None) -> str:
    return "-" if x is None else f"{x:.3g}"


def _signed(x: float | None) -> str:
    return "-" if x is None else f"{x:+.2f}"


def _percent(x: float | None) -> str:
    return "-" if x is None else f"{100 * x:.0f} %"
