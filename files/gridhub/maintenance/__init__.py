# SPDX-License-Identifier: BSD-3-Clause
"""The monthly maintenance of a host; root runs it, with the host's own Python.

Everything here imports the standard library and this package, nothing else: the host may have no
hub, and packages change while it runs. The main modules: :mod:`.main` (the commands),
:mod:`.procedure` (the steps and their order), :mod:`.schedule` (when), :mod:`.status` (what an
administrator asks for).
"""
