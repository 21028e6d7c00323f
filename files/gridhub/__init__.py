# SPDX-License-Identifier: BSD-3-Clause
"""GridHub's code, with a wing (a subpackage) for each program that runs it.

All wings share the modules outside them; docs/contributing.md has a diagram.
"""
