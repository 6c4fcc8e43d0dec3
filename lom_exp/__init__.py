"""Offline-RL experiments: Learning on One Mode (LOM) and the methods it is compared with."""
