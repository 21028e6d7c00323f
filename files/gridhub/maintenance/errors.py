# SPDX-License-Identifier: BSD-3-Clause
"""The one exception of the maintenance."""

from __future__ import annotations


class MaintenanceError(Exception):
    """A step has failed; the message gives the reason and, if there is one, the remedy."""
