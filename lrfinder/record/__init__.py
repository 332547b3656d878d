"""Records of range tests as frozen values, and the state machine that records them. No torch."""
