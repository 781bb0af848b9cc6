"""Serving bundles over HTTP: `launch.serve`. Needs the extra `serve`; no other package imports this one."""
