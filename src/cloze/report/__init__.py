"""What runs say when they are laid side by side: collected from their folders, judged over seeds, shown as tables and pages."""
