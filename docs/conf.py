"""Sphinx: ``make docs`` builds docs/_build."""

from sb3_gps import __version__

project = "sb3-gps"
author = "sb3-gps contributors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Links out of the folder are for readers of the repository.
suppress_warnings = ["myst.xref_missing"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
html_theme = "alabaster"
html_theme_options = {
    "description": "Guided policy search from images to torques",
    "page_width": "1100px",
    "sidebar_width": "230px",
}
