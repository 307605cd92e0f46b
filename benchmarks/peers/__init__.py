"""What anoaug is measured against: the per-image pipelines people run today, re-derived by us.

Nothing here imports anoaug, and nothing in anoaug imports this.
"""
