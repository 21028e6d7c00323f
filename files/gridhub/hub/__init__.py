# SPDX-License-Identifier: BSD-3-Clause
"""The hub's process: GridHub's changes to JupyterHub. Runs as ``jupyterhub``."""
