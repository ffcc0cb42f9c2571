"""`python -m aifeedback_dpo` is `ddpo`."""

from aifeedback_dpo.cli.app import app

app(prog_name="ddpo")
