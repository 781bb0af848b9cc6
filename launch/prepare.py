"""Makes a data set from raw files: filters interactions, numbers users and items, compares counts with the papers'.

python -m launch.prepare --dataset=fashion --download
python -m launch.prepare --dataset=mine --importer=table --raw_dir=raw --user_column=uid --item_column=sku
"""

from __future__ import annotations

from absl import flags

from llmesr_jax.core import commands, knobs, wording
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import importers, prepare_plan
from llmesr_jax.data.rules import Rule

from . import cli, setting_flags

FLAGS = flags.FLAGS


def _settings() -> dict[str, knobs.Setting]:
    """Every flag: the command's own, the rule's, and the options of all importers.

    Every flag defaults to None: then the data set's own value is used.
    """
    rule = {
        name: setting._replace(doc=f"{setting.doc} (default: {setting.default!r}, or the data set's)")
        for name, setting in knobs.fields(Rule).items()
    }
    own = {**knobs.fields(prepare_plan.Settings), **rule}
    options = {name: importers.PLUGINS.load(name).Options for name in importers.PLUGINS.names()}
    return {**own, **setting_flags.shared(options, own)}


def define_flags() -> None:
    setting_flags.define(_settings(), optional=True)


def main(argv, stop):
    if FLAGS.importer in ("?", "help"):
        return print(importers.PLUGINS.listing())
    given = setting_flags.given(_settings())
    own = knobs.fields(prepare_plan.Settings)
    settings = knobs.made(prepare_plan.Settings, {k: v for k, v in given.items() if k in own}, "command line")
    plan = prepare_plan.plan(settings, {name: value for name, value in given.items() if name not in own})
    from llmesr_jax.data import prepare, summary
    from llmesr_jax.semantic import embed_command

    outcome = prepare.prepare(plan, stop=stop)
    embed = embed_command.after_growth(settings.dataset, plan.out) if settings.append else ""
    if "items.npy" in outcome.manifest["files"]:
        inspect = f"{commands.line('inspect')} {summary.data_flags(settings.dataset, plan.out)}"
        text, train = f"no audit, as it reads all interactions into memory; {inspect} prints it", ""
    else:
        text, train = _audit(plan) if settings.audit and outcome.fresh else ("", "")
    print(wording.wrapped(summary.describe(outcome, embed, text, train)))


def _audit(plan: prepare_plan.Plan) -> tuple[str, str]:
    """The audit as text, and the flags that training needs because of it.

    If the audit fails, the data may still be right, so the text is one line that says why.
    """
    from llmesr_jax.audit import audit
    from llmesr_jax.data.splits import MOST_REPEATED

    try:
        found = audit.of_folder(plan.settings.dataset, plan.out)
    except InputError as error:
        return f"no audit: {error}", ""
    repeats = found.facts["repeats"]
    many = max(repeats["test_share"], repeats["valid_share"]) > MOST_REPEATED
    return audit.describe(found), " --config.train.seen_items=shown" * many


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main, with_config=False)


if __name__ == "__main__":
    run()
