# SPDX-License-Identifier: BSD-3-Clause
"""The parts of SGESpawner (``files/sge_spawner.py``), one module for each task."""
