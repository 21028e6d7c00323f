# SPDX-License-Identifier: BSD-3-Clause
"""What every page announces: the administrators' words, and the next maintenance."""
