# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: each request starts a process as root, which then becomes the person.

Only the module ``client`` runs in the hub.
"""
