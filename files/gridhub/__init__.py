# SPDX-License-Identifier: BSD-3-Clause
"""GridHub's code, with a wing (a subpackage) for each program that runs it.

The modules beside the wings are shared; docs/contributing.md has a diagram.
"""
