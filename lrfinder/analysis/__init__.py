"""What a curve shows: pure functions from numbers to numbers. No torch, no opinion, no sentence."""
