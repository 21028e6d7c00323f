# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine: its commands, its formats and its words. No other wing knows its dialect."""
