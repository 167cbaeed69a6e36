"""What runs say when they are laid side by side: collected from their folders, judged over seeds, shown as tables and pages."""

LEVEL = 0.05  # the chance of claiming a difference where there is none, over all arms of a metric
