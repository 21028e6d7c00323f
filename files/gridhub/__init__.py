# SPDX-License-Identifier: BSD-3-Clause
"""GridHub's code, a wing for each program that runs it.

``contract`` and the modules beside the wings are shared; docs/contributing.md has the picture.
"""
