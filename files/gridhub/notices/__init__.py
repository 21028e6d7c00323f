# SPDX-License-Identifier: BSD-3-Clause
"""The announcements on every page: the administrators' own, and the next maintenance."""
