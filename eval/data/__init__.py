"""Where images and features come from: sources, the feature cache, the reference."""
