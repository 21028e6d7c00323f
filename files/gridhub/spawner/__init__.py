# SPDX-License-Identifier: BSD-3-Clause
"""The parts of SGESpawner (``files/sge_spawner.py``); each takes values and decides one thing."""
