"""Sweeps: from a command line to packs of runs on this machine or a cluster, and their state.

`python launch.py` starts them; `python -m lom_exp.launcher` looks after them.
"""
