"""Reports of an evaluation: JSON, HTML and charts."""
