# SPDX-License-Identifier: BSD-3-Clause
"""Compare an inventory with the site's hosts and its Grid Engine, before anything is changed."""
