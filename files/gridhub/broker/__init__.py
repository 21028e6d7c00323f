# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: it starts as root for one request, then continues as the person.

``client`` is the part that runs in the hub.
"""
