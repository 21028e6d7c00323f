# SPDX-License-Identifier: BSD-3-Clause
"""The resource menu: what people may ask for, and what that means to Grid Engine."""
