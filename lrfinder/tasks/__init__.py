"""torchvision's models with their data, ready for a range test."""
