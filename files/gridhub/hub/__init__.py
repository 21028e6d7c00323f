# SPDX-License-Identifier: BSD-3-Clause
"""The hub's process: what JupyterHub does differently here. Run as ``jupyterhub``."""
