"""What holds for every test: no test of ours lets a library report to its maker."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
