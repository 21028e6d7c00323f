# SPDX-License-Identifier: BSD-3-Clause
"""The exception that the modules of the maintenance raise."""

from __future__ import annotations


class MaintenanceError(Exception):
    """A step has failed; the message gives the reason, and the remedy if there is one."""
