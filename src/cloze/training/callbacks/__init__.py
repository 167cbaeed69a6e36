"""What happens beside the steps: points are logged, validations run, checkpoints saved, progress shown."""
