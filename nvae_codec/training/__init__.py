"""Objective, schedules, data, loop and checkpoints."""
