# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker.

Each request starts a process that runs as root at first and then switches permanently to the
person's account. The hub itself uses only the modules ``client`` and ``protocol`` of this package.
"""
