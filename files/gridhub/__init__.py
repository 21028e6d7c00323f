# SPDX-License-Identifier: BSD-3-Clause
"""The programs of GridHub, one wing (subpackage) for each, named for who runs it.

The files ``sge_*.py`` beside this package are what systemd, Grid Engine and Ansible call; each
imports its wing and calls its ``main``. A wing imports only what its host has: root's parts and
those that run on a bare host import neither the hub nor the spawner (``tests/unit/test_imports.py``
checks this).
"""
