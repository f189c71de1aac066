"""Measurements that are run by hand; not installed."""
