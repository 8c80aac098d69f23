"""What Python imports when it starts, where this folder is on its path: processes of an audited command are audited as well."""

from __future__ import annotations

import os

import audited

if audited.LOG in os.environ:
    audited.watch(os.environ[audited.LOG])
