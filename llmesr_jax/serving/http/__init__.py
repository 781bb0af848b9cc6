"""Bundles behind HTTP: `launch.serve`. Needs the extra `serve`; nothing else of the package imports this one."""
