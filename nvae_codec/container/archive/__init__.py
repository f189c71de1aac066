"""Archives of many images."""
