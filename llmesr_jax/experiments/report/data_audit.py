"""The audit of the data on the page: figure 1 of both papers, a table, and the warnings."""

from __future__ import annotations

from markupsafe import Markup

from llmesr_jax.audit import wording
from llmesr_jax.audit.audit import Audit
from llmesr_jax.audit.findings import percent
from llmesr_jax.experiments.drawing import Panel, color, panel
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.rows import Section
from llmesr_jax.experiments.report.templating import render

_PANELS = {
    "user_length": ("Users by length", "interactions of the user", "users"),
    "item_popularity": ("Items by popularity", "interactions of the item", "items"),
}


def figure(section: Section, audit: Audit) -> Figure:
    """Two histograms: users by their number of interactions, items likewise."""
    facts = audit.facts["groups"]
    caption = (
        "All interactions, including validation and test; bars cover wider ranges to the right. The "
        f"{facts['head_items']:,} head items have {percent(facts['head_item_share'])} of the training interactions."
    )
    panels = tuple(_histogram(f"{section.slug}-{key.replace('_', '-')}", audit, key) for key in _PANELS)
    return Figure("data", "The data", caption, (), panels)


def _histogram(name: str, audit: Audit, key: str) -> Panel:
    title, axis, counted = _PANELS[key]
    bars = audit.facts[key]
    labels, total = [wording.label(bar) for bar in bars], sum(bar["count"] for bar in bars)

    def on(axes, tips):
        for k, (label, bar) in enumerate(zip(labels, bars)):
            tips[f"tip-{k}"] = f"{label}: {bar['count']:,} {counted}, {percent(bar['count'] / total)}"
            axes.bar(k, bar["count"], color=color("s1"), width=0.78)[0].set_gid(f"tip-{k}")
        axes.set_xticks(range(len(labels)), labels, rotation=40 if len(labels) > 7 else 0)
        axes.tick_params(axis="x", length=0, labelsize=10)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=False, axis="x")
        axes.set(title=title, xlabel=axis, ylabel=counted)

    told = ", ".join(f"{label}: {bar['count']:,}" for label, bar in zip(labels, bars))
    return panel(name, f"{counted} by number of interactions: {told}", on)


def warnings(section: Section, audit: Audit) -> Markup:
    """A list of the warnings, or a line that says there are none.

    Some warnings are about models with a softmax loss; a line says which rows these are.
    """
    softmax = None
    if any("softmax" in one.text for one in audit.warnings):
        softmax = [section.title(row) for row in section.rows if "softmax" in row.settings["loss.ranking"]]
    return render("warnings.html", warnings=audit.warnings, softmax=softmax)


def table(audit: Audit) -> Markup:
    """Every fact of the audit, in words."""
    return render("audit_table.html", rows=wording.rows(audit))
