# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker.

Each request starts a process that runs as root at first and then switches permanently to the
person's account. Of this package, only the module ``client`` runs in the hub.
"""
