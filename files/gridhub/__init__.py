# SPDX-License-Identifier: BSD-3-Clause
"""GridHub's code. Each program has its own subpackage, called a wing.

The modules outside the wings are shared by all wings; docs/contributors/house.md has a diagram.
"""
