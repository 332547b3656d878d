"""What happened in a range test, as frozen values, and the state machine that records it. No torch."""
