# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: run by root for one request, then as the person.

``client`` is the hub's end.
"""
