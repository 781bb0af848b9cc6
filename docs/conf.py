"""The documentation site: `sphinx-build -W --keep-going docs site` makes it from these pages and the code's docstrings.

Sphinx, because it reads docstrings and cross-references without a second tool and its search works offline, from files;
furo, for one theme that is narrow and wide, light and dark; MyST, so that the pages stay Markdown that GitHub shows.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "_ext")]

from llmesr_jax.core.version import VERSION  # noqa: E402

project, author, copyright = "llmesr-jax", "llmesr-jax maintainers", "llmesr-jax maintainers, MIT licence"
version = release = VERSION

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "generated"]
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks hold their output; tests/test_notebooks.py runs them
suppress_warnings = ["myst.strikethrough"]

default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "llmesr-jax"
html_theme_options = {"top_of_page_buttons": []}
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True
