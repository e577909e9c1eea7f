"""The commands of ``python -m sb3_gps``: one module each, with ``add_arguments`` and ``main``."""
